// Forms that came with a change of the page get this login's token; choices take effect at once; no double sending.
export function prepareForms(root) {
  const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
  const field = document.querySelector('meta[name="csrf-field"]')?.content ?? "csrf_token";
  for (const input of root.querySelectorAll(`form[method="post"] input[name="${CSS.escape(field)}"]`)) {
    input.value = token;
  }
  for (const form of root.querySelectorAll("form")) {
    if (form.dataset.ready) continue;
    form.dataset.ready = "yes";
    if (form.method === "get") {
      for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => form.requestSubmit());
      continue;
    }
    form.addEventListener("submit", (event) => {
      const question = form.dataset.ask;
      if (question && !confirm(question)) {
        event.preventDefault();
        return;
      }
      const button = event.submitter;
      if (button) setTimeout(() => (button.disabled = true));
    });
  }
  root.querySelector("[data-focus]")?.focus(); // what is wrong with a form is read first
}

addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
});
