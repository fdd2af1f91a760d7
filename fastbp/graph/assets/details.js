// Elements of the page, and the panel beside the graph: everything about one node or folded group.

function make(name, attributes, parent, text) {
  return addElement(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, parent, text);
}

function add(name, attributes, parent, text) {
  return addElement(document.createElement(name), attributes, parent, text);
}

function addElement(element, attributes, parent, text) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// A histogram; an empty step is a thin line.
function addBars(counts, parent, x, y, w, h, style) {
  const most = Math.max(...counts), step = w / counts.length;
  const group = make("g", {class: `bars ${style}`}, parent);
  counts.forEach((count, i) => {
    const tall = count ? Math.max(1.5, (count / most) * h) : 0.5;
    make("rect", {x: x + i * step, y: y + h - tall, width: step - 0.8, height: tall}, group);
  });
}

// A value in full: a number, a matrix as a table, a large tensor as facts and a histogram.
function addValue(value, field, style, parent, before = "") {
  const attributes = {class: `${style}${isBad(value) ? " bad" : ""}`, "data-field": field, "data-text": textOf(value)};
  const holder = add("div", attributes, parent);
  if (isLarge(value)) {
    add("p", {}, holder, `${before}${value.shape} ${value.dtype}`);
    for (const fact of value.facts) add("p", {}, holder, fact);
    if (value.bars.length < 2) return;
    const label = `Histogram in ${value.bars.length} steps: ${value.bars.join(", ")}`;
    addBars(value.bars, make("svg", {class: "bars", viewBox: "0 0 160 44", preserveAspectRatio: "none", role: "img", "aria-label": label}, holder), 0, 0, 160, 44, style);
  } else if (value === null || typeof value === "string" || value.rows === undefined) {
    add("p", {}, holder, before + textOf(value));
    if (value !== null && value.shape) add("p", {class: "quiet"}, holder, `${value.shape} ${value.dtype}`);
  } else {
    if (before) add("p", {}, holder, before.trimEnd());
    const table = add("table", {class: "matrix"}, holder);
    for (const row of value.rows) {
      const line = add("tr", {}, table);
      for (const cell of row.trim().split(/\s+/)) add("td", {}, line, cell);
    }
    add("p", {class: "quiet"}, holder, `${value.shape} ${value.dtype}`);
  }
}

function addMore(count, parent) {
  if (count > 0) add("p", {class: "quiet"}, parent, `… and ${count.toLocaleString("en")} more`);
}

// Fills the panel. step: that of the item, or null where it has none now.
function showDetails(panel, model, data, item, moment, step) {
  panel.textContent = "";
  if (!item) {
    add("h2", {}, panel, data.title);
    if (data.description) add("p", {}, panel, data.description);
    add("p", {}, panel, "Forward each operation computes its value. Backward each multiplies the gradient that arrives, upstream, by its local derivative, and sends the product downstream. Where several gradients arrive, they add.");
    add("p", {class: "quiet"}, panel, "← and → step, Home and End go to the start and the end, space plays. A click on a node goes to its step, a click on a box folds or unfolds it. Drag to move, + and - or the wheel to zoom, f shows all.");
  } else if (item.isGroup) showGroup(panel, item, moment);
  else showNode(panel, model, data, item, moment, step);
}

function showNode(panel, model, data, node, moment, step) {
  const isOperation = node.operation !== undefined;
  add("h2", {"data-field": "name"}, panel, isOperation ? `${labelOf(node)} = ${node.expression}` : node.name);
  const about = isOperation ? `operation ${node.operation}${node.module ? ` in ${node.module}` : ""}` : node.kind;
  add("p", {class: "quiet", "data-field": "about"}, panel, about);
  const arrived = arrivedAt(node, moment), several = node.values.length > 1;
  if (isComputed(node, moment)) {
    add("h3", {}, panel, "Value");
    node.values.forEach((value, i) => addValue(value, "value", "value", panel, several ? `${node.names[i]} = ` : ""));
  }
  if (arrived) {
    add("h3", {}, panel, `Upstream: the gradient that arrives${data.passes > 1 ? ` in pass ${arrived.pass}` : ""}`);
    for (const part of arrived.parts.slice(0, 20))
      add("p", {class: "quiet", "data-part": part.edge.target.name}, panel, `${textOf(part.value)}${several ? ` to ${part.edge.name}` : ""} from ${part.edge.target.name}`);
    addMore(arrived.parts.length - 20, panel);
    if (arrived.whole) for (const hook of arrived.hooks.filter(Boolean)) add("p", {class: "quiet", "data-field": "hook"}, panel, hook);
    if (arrived.whole) arrived.values.forEach((value, i) => addValue(value, "upstream", "gradient", panel, several ? `${node.gradients[i]} = ` : ""));
  }
  const visit = step && step.pass ? model.events[step.from] : node.visits.filter((event) => event.index <= moment).pop();
  if (visit) showSent(panel, node, visit);
}

// What a node sends to each of its inputs.
function showSent(panel, node, visit) {
  add("h3", {}, panel, "Downstream = upstream × local");
  if (node.words) add("p", {class: "quiet", "data-field": "words"}, panel, `It ${node.words}.`);
  for (const [edge, local, value] of visit.sent.slice(0, 20)) {
    const sent = add("div", {class: "sent", "data-to": edge.name}, panel);
    add("p", {}, sent, `to ${edge.name}${edge.views ? ` (${edge.views})` : ""}`);
    const rule = (local !== null && edge.slope) || edge.rule;
    if (rule) add("p", {class: "quiet", "data-field": "rule"}, sent, rule);
    if (local !== null) addValue(local, "local", "ink", sent, "local ");
    const simple = local !== null && [visit.upstream[0], local, value].every((each) => typeof each === "string");
    const before = simple ? `${visit.upstream[0]} × ${local} = ` : "";
    addValue(value, "downstream", "gradient", sent, before);
  }
  addMore(visit.sent.length - 20, panel);
}

function showGroup(panel, group, moment) {
  add("h2", {"data-field": "name"}, panel, group.title + (group.kind && group.kind !== group.title ? ` ${group.kind}` : ""));
  add("p", {class: "quiet"}, panel, `${group.nodes.length.toLocaleString("en")} nodes, folded: a click on the box unfolds it`);
  const list = (title, nodes) => {
    if (nodes.length) add("h3", {}, panel, title);
    for (const node of nodes.slice(0, 12)) {
      add("p", {}, panel, labelOf(node));
      if (isComputed(node, moment)) addValue(node.values[0], "value", "value", panel);
      const arrived = arrivedAt(node, moment);
      if (arrived && arrived.whole) addValue(arrived.values[0], "upstream", "gradient", panel);
    }
    addMore(nodes.length - 12, panel);
  };
  list("What goes out", group.outputs);
  list("Parameters", group.nodes.filter((node) => node.kind === "parameter"));
  if (!group.outputs.length) list("Tensors", group.nodes);
}
