// Makes what is on the page equal to what is wanted and touches nothing that is equal already: focus, open details,
// selected text and scrolled tables stay as they are.

export function morph(target, wanted) {
  const have = [...target.childNodes];
  const named = new Map(have.filter((node) => node.id).map((node) => [node.id, node]));
  let at = target.firstChild;
  for (const next of [...wanted.childNodes]) {
    let found = next.id ? named.get(next.id) : null;
    if (!found && at && !at.id && !next.id && alike(at, next)) found = at;
    if (!found) {
      target.insertBefore(next, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else target.insertBefore(found, at);
    adapt(found, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName;
}

function adapt(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  // What scripts filled in says by its key whether it is still right.
  if (node.dataset.own !== undefined && node.dataset.own === keyOf(wanted)) return;
  if (node.isEqualNode(wanted)) return;
  if (node.matches("[data-figure]")) {
    for (const name of ["data-figure", "aria-label"]) node.setAttribute(name, wanted.getAttribute(name)); // drawn by a script
    return;
  }
  for (const { name } of [...node.attributes]) {
    if (!wanted.hasAttribute(name) && !kept(node, name)) node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value && !kept(node, name)) node.setAttribute(name, value);
  }
  morph(node, wanted);
}

// The reader's own: what is open, what was typed, tokens that only this page knows, what scripts noted.
function kept(node, name) {
  if (name === "data-ready") return true;
  return (node.nodeName === "DETAILS" && name === "open") || (node.nodeName === "INPUT" && name === "value");
}

export function keyOf(node) {
  return node.nodeName === "TIME" ? node.getAttribute("datetime") : null;
}
