// What is known at which moment. A moment is the number of the last event that has happened, -1 before the first.

// Where every edge was sent what: [{pass, at, local, value}], in order.
function tell(model) {
  for (const edge of model.edges) edge.sent = [];
  for (const event of model.events)
    for (const [edge, local, value] of event.sent || []) edge.sent.push({pass: event.pass, at: event.index, local, value});
  for (const group of model.groups) {
    group.nodes = model.order.slice(group.begin, group.end);
    const outside = (edge) => edge.target.rank < group.begin || edge.target.rank >= group.end;
    group.outputs = group.nodes.filter((node) => node.operation && (!node.uses.length || node.uses.some(outside)));
  }
}

// The steps of what is drawn: one for each operation, or group of them, forward and in each backward pass.
function stepsOf(model, shown) {
  const steps = [];
  for (const event of model.events) {
    const owner = shown[event.node.index], last = steps[steps.length - 1];
    if (last && last.owner === owner && last.pass === event.pass) last.to = event.index;
    else steps.push({owner, pass: event.pass, from: event.index, to: event.index});
  }
  return steps;
}

function isComputed(node, moment) {
  return node.operation === undefined || node.computed <= moment;
}

// The gradient that has arrived at a node by now: {pass, parts, values, adds, hooks, whole}, or null. parts: what single
// uses sent; adds: whether they make up all that arrived; hooks: what hooks made of that, "" where they changed nothing.
function arrivedAt(node, moment) {
  const visits = node.operation === undefined ? node.arrived : node.visits;
  for (let i = visits.length - 1; i >= 0; --i) {
    const {pass, upstream, adds, hooks, index} = visits[i];
    const parts = [];
    let expected = 0;
    for (const edge of node.uses)
      for (const sent of edge.sent) {
        if (sent.pass !== pass) continue;
        expected += 1;
        if (sent.at <= moment) parts.push({edge, ...sent});
      }
    const whole = expected ? parts.length === expected : index <= moment;
    if (whole || parts.length) return {pass, parts, whole, adds, hooks, values: upstream};
  }
  return null;
}

const labelOf = (node) => node.names.join(", ");

function textOf(value) {
  if (value === null) return "none";
  return typeof value === "string" ? value : value.text || `${value.shape} ${value.facts[0]}`;
}

const isBad = (value) => value !== null && typeof value === "object" && value.bad === true;
const isLarge = (value) => value !== null && typeof value === "object" && value.bars !== undefined;

function shorten(text, most) {
  return text.length <= most ? text : text.slice(0, most - 1) + "…";
}

// The lines of a value on a card: on one line where it fits, a matrix as rows, a large tensor as facts and a histogram.
function linesOf(value, kind, before = "") {
  const style = isBad(value) ? `${kind} bad` : kind;
  if (value === null) return [];
  if (isLarge(value)) {
    const lines = [{text: before + value.shape, style}, ...value.facts.slice(0, 1).map((text) => ({text, style}))];
    for (const text of value.facts.filter((fact) => /nan|inf/.test(fact)).slice(0, 2)) lines.push({text, style: `${kind} bad`});
    return value.bars.length > 1 ? [...lines, {bars: value.bars, style: kind}] : lines;
  }
  const text = before + textOf(value);
  if (text.length <= 26 || value.rows === undefined) return [{text: shorten(text, 60), style}];
  const rows = value.rows.map((row) => ({text: shorten(row, 36), style, mono: true}));
  return before ? [{text: before.trimEnd(), style}, ...rows] : rows;
}

function gradientLines(node, moment) {
  const arrived = arrivedAt(node, moment);
  if (!arrived) return [];
  return arrived.values.flatMap((value, i) => {
    const mine = arrived.parts.filter((part) => part.edge.output === i), parts = mine.map((part) => textOf(part.value));
    const short = arrived.adds[i] && parts.length > 1 && parts.length <= 4 && mine.every((part) => typeof part.value === "string");
    if (!arrived.whole) {
      if (!parts.length) return [];
      const sum = short || parts.length === 1 ? `${parts.join(" + ")} + …` : `${parts.length} parts so far`;
      return [{text: shorten(`${node.gradients[i]} = ${sum}`, 40), style: "gradient"}];
    }
    const hook = arrived.hooks[i] ? [{text: shorten(arrived.hooks[i], 60), style: "gradient"}] : [];
    if (short && typeof value === "string" && !hook.length) return [{text: `${node.gradients[i]} = ${parts.join(" + ")} = ${value}`, style: "gradient"}];
    return [...linesOf(value, "gradient", `${node.gradients[i]} = `), ...hook];
  });
}

// What a card says: the title, then values, then gradients as far as they are known.
function cardLines(item, moment) {
  if (item.isGroup) {
    const operations = item.nodes.filter((node) => node.operation !== undefined).length;
    const lines = [{text: shorten(item.title, 30), style: "title", bold: true}];
    if (item.kind && item.kind !== item.title) lines[0].rest = ` ${item.kind}`;
    const count = operations || item.nodes.length, what = operations ? "operation" : "tensor";
    lines.push({text: `${count.toLocaleString("en")} ${what}${count > 1 ? "s" : ""} ▸`, style: "quiet"});
    for (const node of item.outputs.slice(0, 1)) {
      if (isComputed(node, moment)) lines.push(...linesOf(node.values[0], "value"));
      lines.push(...gradientLines(node, moment));
    }
    return lines;
  }
  const title = {text: shorten(labelOf(item), 26), style: "title", bold: true};
  if (item.operation !== undefined) title.rest = shorten(` = ${item.expression}`, 34);
  if (item.kind === "constant" && item.name === item.values[0]) return [title];
  const values = isComputed(item, moment) ? item.values.flatMap((value) => linesOf(value, "value")) : [];
  return [title, ...values, ...gradientLines(item, moment)];
}

// What happens in a step, in one sentence.
function sentenceOf(model, step) {
  if (!step) return "Before the first step: inputs and parameters have their values";
  const {owner, pass} = step;
  if (owner.isGroup) return pass ? `the gradient goes through ${owner.title}` : `${owner.title} is computed`;
  if (!pass) return `${labelOf(owner)} = ${owner.expression} = ${owner.values.map(textOf).join(", ")}`;
  const event = model.events[step.from];
  const sent = event.sent.map(([edge, , value]) => `${textOf(value)} to ${edge.name}`);
  const few = sent.length > 3 ? [...sent.slice(0, 3), `… ${sent.length - 3} more`] : sent;
  return `${labelOf(owner)} gets ${event.upstream.map(textOf).join(", ")} and sends ${few.join(", ") || "nothing"}`;
}

// What an edge was sent, the longest text first: upstream × local = downstream, the rule, the result.
function productTexts(event, edge) {
  const [, local, value] = event.sent.find(([each]) => each === edge), texts = [];
  if (local !== null) texts.push(`${textOf(event.upstream[0])} × ${textOf(local)} = ${textOf(value)}`);
  if (edge.rule) texts.push(edge.rule);
  return [...texts, `= ${textOf(value)}`];
}
