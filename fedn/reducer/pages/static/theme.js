// Before the page is drawn: the theme that was chosen on this machine, so that nothing flashes.
(() => {
  const chosen = localStorage.getItem("fedn-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
