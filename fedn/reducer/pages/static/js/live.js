// Keeps the page as it is now: the server sends the parts that changed, and they are put into place.
import { morph } from "./morph.js";
import { holdStream } from "./stream.js";

export function watchPage(refresh) {
  holdStream(() => location.pathname + location.search, {
    regions(event) {
      const { regions, trouble } = JSON.parse(event.data);
      for (const [name, html] of Object.entries(regions)) {
        const target = document.querySelector(`[data-region="${CSS.escape(name)}"]`);
        if (!target) continue;
        const wanted = document.createElement("template");
        wanted.innerHTML = html;
        morph(target, wanted.content);
        refresh(target);
      }
      const notice = document.getElementById("trouble");
      notice.hidden = !trouble;
      if (notice.textContent !== trouble) notice.textContent = trouble;
    },
  });
}
