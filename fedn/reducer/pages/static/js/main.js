// Starts what a page needs. Every page reads well without any of it.
import { watchPage } from "./live.js";
import { showTimes } from "./times.js";
import { offerThemes } from "./theme.js";
import { prepareForms } from "./forms.js";
import { drawPlots } from "./plots.js";
import { followEvents } from "./events.js";

function refresh(root) {
  showTimes(root);
  prepareForms(root);
  drawPlots(root);
}

offerThemes();
refresh(document);
if (document.querySelector("[data-events-after]")) followEvents(refresh);
else if (document.body.dataset.live) watchPage(refresh);
