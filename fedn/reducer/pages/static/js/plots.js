// Draws the figures of a page with plotly, in the page's own colours and letters.
let loading = null;

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.querySelector('meta[name="plotly"]').content;
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error("plotly did not load"));
    document.head.append(script);
  });
  return loading;
}

export async function drawPlots(root) {
  const wanted = [...root.querySelectorAll("[data-figure]")].filter((box) => box.drawn !== box.dataset.figure);
  if (!wanted.length) return;
  const library = await plotly();
  for (const box of wanted) draw(library, box);
}

function draw(library, box) {
  box.drawn = box.dataset.figure;
  const figure = JSON.parse(box.dataset.figure);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => resolved(box, `var(${name})`);
  const [text, quiet, line, panel] = ["--text", "--quiet", "--line", "--panel"].map(colour);
  const palette = ["--accent", "--busy", "--warn", "--dispatch", "--bad", "--commit", "--collecting", "--idle"].map(colour);
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: quiet }, automargin: true };
  const layout = {
    ...figure.layout,
    autosize: true,
    colorway: palette,
    font: { family: style.fontFamily || "sans-serif", size: 12, color: text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 12, t: 12, b: 44 },
    hoverlabel: { bgcolor: panel, bordercolor: line, font: { color: text } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: text }, ...figure.layout?.legend },
    xaxis: { ...axis, ...figure.layout?.xaxis },
    yaxis: { ...axis, ...figure.layout?.yaxis },
  };
  const data = figure.data.map((trace) => coloured(trace, colour));
  library.react(box, data, layout, { displayModeBar: false, responsive: true, doubleClick: "reset", scrollZoom: false });
}

// A trace names colours by the page's words: "var:--busy".
function coloured(value, colour) {
  if (typeof value === "string") return value.startsWith("var:") ? colour(value.slice(4)) : value;
  if (Array.isArray(value)) return value;
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner, colour)]));
  }
  return value;
}

function resolved(box, value) {
  const probe = document.createElement("span");
  probe.style.color = value;
  probe.hidden = true;
  box.parentNode.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function redraw() {
  for (const box of document.querySelectorAll("[data-figure]")) delete box.drawn;
  drawPlots(document);
}
document.addEventListener("themechange", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
