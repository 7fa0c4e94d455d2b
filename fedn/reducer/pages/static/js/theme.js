// Light, dark, or as the system has it.
export function offerThemes() {
  const choice = document.getElementById("theme");
  if (!choice) return;
  choice.closest(".theme").hidden = false;
  choice.value = localStorage.getItem("fedn-theme") ?? "";
  choice.addEventListener("change", () => {
    if (choice.value) {
      localStorage.setItem("fedn-theme", choice.value);
      document.documentElement.dataset.theme = choice.value;
    } else {
      localStorage.removeItem("fedn-theme");
      delete document.documentElement.dataset.theme;
    }
    document.dispatchEvent(new Event("themechange"));
  });
}
