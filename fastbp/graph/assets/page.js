// The page: it draws what is in sight of the layout, walks the steps, and answers keys and the mouse.
// `window.picture` is what tests and scripts may use: state(), go(step), fold(title), unfold(title), isDrawn(name), fit().

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const model = modelOf(data);
  tell(model);
  const $$ = (id) => document.getElementById(id);
  const svg = $$("graph"), world = $$("world"), panel = $$("panel"), slider = $$("slider");
  const opened = new Set(data.open);
  const view = {x: 0, y: 0, k: 1};
  const END = model.events.length - 1;
  let plan, steps, at = 0;  // at: how many steps have been taken
  let chosen = null;  // a node or group whose details are asked for
  let player = 0, tween = 0;
  const drawn = new Map();  // of what is in sight: its element and what that shows

  // ---------------------------------------------------------------- sizes and layout

  const pen = document.createElement("canvas").getContext("2d");
  const fonts = {plain: "13px system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", mono: "12px 'DejaVu Sans Mono', ui-monospace, Consolas, monospace"};
  fonts.bold = `600 ${fonts.plain}`;
  const LINE = 17, BARS = 22;
  const widths = new Map();
  function widthOf(text, font) {
    const key = font + text;
    if (!widths.has(key)) {
      pen.font = fonts[font];
      widths.set(key, pen.measureText(text).width);
    }
    return widths.get(key);
  }
  const sizes = new Map();
  function measure(item) {
    if (!sizes.has(item)) {
      const lines = cardLines(item, END);
      let w = 46, h = 10;
      for (const line of lines) {
        h += line.bars ? BARS : LINE;
        if (line.text === undefined) continue;
        const own = widthOf(line.text, line.mono ? "mono" : line.bold ? "bold" : "plain");
        w = Math.max(w, own + (line.rest ? widthOf(line.rest, "plain") : 0) + 22, line.bars ? 130 : 0);
      }
      if (lines.some((line) => line.bars)) w = Math.max(w, 130);
      sizes.set(item, {w: Math.ceil(w), h: h + 4});
    }
    return sizes.get(item);
  }

  function arrange() {
    const moment = momentNow();
    const small = new Set(shownFor(model, opened)).size <= 60;
    const gap = small ? roomForLabels() : 56;
    plan = layout(model, opened, measure, {aspect: Math.max(0.6, size().w / size().h), gap});
    plan.boxOf = new Map(plan.boxes.map((box) => [box.item, box]));
    plan.small = small;
    steps = stepsOf(model, plan.shown);
    // The step that ends with the same event, or the one that has it inside.
    at = moment < 0 ? 0 : 1 + steps.findIndex((step) => step.to >= moment);
    slider.max = steps.length;
    for (const {element} of drawn.values()) element.remove();
    drawn.clear();
    $$("fold").disabled = opened.size < 2;
    $$("unfold").disabled = !nextLevel().length;
  }

  // The width that what is sent along links takes, as far as it is not too long for them.
  function roomForLabels() {
    let most = 90;
    for (const event of model.events.slice(0, 1000))
      for (const [edge] of event.sent || []) {
        const text = productTexts(event, edge).find((each) => each.length <= 30);
        if (text) most = Math.max(most, widthOf(text, "bold") + 22);
      }
    return most;
  }

  const momentNow = () => (at > 0 && steps ? steps[at - 1].to : -1);
  const size = () => ({w: svg.clientWidth || 900, h: svg.clientHeight || 600});

  // ---------------------------------------------------------------- drawing

  function stateOf(item, moment) {
    const step = steps[at - 1];
    if (step && step.owner === item) return "active";
    if (!item.isGroup) return isComputed(item, moment) ? "known" : "waiting";
    return item.outputs.every((node) => isComputed(node, moment)) ? "known" : "waiting";
  }

  function drawCard(box, moment) {
    const {item} = box, state = stateOf(item, moment), lines = cardLines(item, moment);
    const card = make("g", {
      class: `card ${item.isGroup ? "group" : item.kind}${item === chosen ? " chosen" : ""}`,
      transform: `translate(${box.x},${box.y})`, tabindex: 0, role: "button", "data-state": state,
      "data-value": item.isGroup ? "" : item.values.map(textOf).join(", "),
      "data-gradient": item.isGroup ? "" : gradientNow(item, moment),
      [item.isGroup ? "data-group" : "data-node"]: item.isGroup ? item.title : item.name,
      "aria-label": item.isGroup ? `${item.title}, folded, ${item.nodes.length} nodes` : lines.map((line) => (line.text || "") + (line.rest || "")).join(", "),
    });
    if (item.isGroup) make("rect", {class: "back", x: 4, y: 4, width: box.w, height: box.h, rx: 8}, card);
    make("rect", {class: "body", width: box.w, height: box.h, rx: 8}, card);
    let y = 5;
    for (const line of lines) {
      if (line.bars) addBars(line.bars, card, 11, y + 3, box.w - 22, BARS - 6, line.style);
      else {
        const text = make("text", {x: 11, y: y + 13, class: `${line.style} ${line.mono ? "mono" : ""}`}, card);
        make("tspan", line.bold ? {"font-weight": 600} : {}, text, line.text);
        if (line.rest) make("tspan", {}, text, line.rest);
      }
      y += line.bars ? BARS : LINE;
    }
    return {element: card, layer: "cards", shows: state + JSON.stringify(lines) + (item === chosen)};
  }

  function gradientNow(node, moment) {
    const arrived = arrivedAt(node, moment);
    return arrived && arrived.whole ? arrived.values.map(textOf).join(", ") : "";
  }

  function drawFrame(box) {
    const {item} = box;
    const frame = make("g", {class: "frame", "data-group": item.title, "data-open": "true"});
    make("rect", {x: box.x, y: box.y, width: box.w, height: box.h, rx: 10}, frame);
    const title = item.title + (item.kind && item.kind !== item.title ? ` ${item.kind}` : "");
    const head = make("g", {tabindex: 0, role: "button", "aria-expanded": "true", "aria-label": `Fold ${title}`}, frame);
    make("rect", {x: box.x + 1, y: box.y + 1, width: box.w - 2, height: GAP.title - 4, rx: 8}, head);
    make("text", {x: box.x + 10, y: box.y + 17, class: "title quiet"}, head, `▾ ${title}`);
    return {element: frame, layer: "frames", shows: ""};
  }

  function drawLink(link) {
    const step = steps[at - 1];
    const active = step && (step.pass ? step.owner === link.to && sentIn(link, step).length : step.owner === link.to);
    const style = active ? (step.pass ? " back" : " forth") : "";
    // Drawn from the source; in a backward step the dashes run to it.
    const element = make("path", {class: `link${style}`, d: pathOf(link.points), "data-from": nameOf(link.from), "data-to": nameOf(link.to)});
    return {element, layer: "links", shows: style};
  }

  const nameOf = (item) => (item.isGroup ? item.title : item.name);
  const sentIn = (link, step) => link.edges.filter((edge) => edge.sent.some((sent) => sent.at >= step.from && sent.at <= step.to));

  // What was sent along a link: now, as upstream × local = downstream, or before, where there is room.
  function drawLabel(link, path, moment) {
    if (link.from.isGroup || link.to.isGroup) return null;
    const [edge] = link.edges, step = steps[at - 1];
    const past = edge.sent.filter((sent) => sent.at <= moment).pop();
    if (!past) return null;
    const now = step.pass > 0 && past.at === step.from;
    const room = Math.max(60, link.points[link.points.length - 1].x - link.points[0].x - 6);
    const texts = now ? productTexts(model.events[step.from], edge) : plan.small ? [textOf(past.value)] : [];
    const text = texts.find((each) => widthOf(each, "bold") <= (now ? room : 110));
    if (!text) return null;
    // On the way to another line, which several take together, each has a place of its own.
    const place = link.points.some((point) => point.turn) ? 0.5 + Math.max(-0.3, Math.min(0.3, 0.2 * link.port)) : 0.5;
    const middle = path.getPointAtLength(path.getTotalLength() * place), w = widthOf(text, now ? "bold" : "plain") + 8;
    const element = make("g", {class: `label${now ? " now" : ""}`, "data-edge": `${link.from.name} ${link.to.name}`});
    make("rect", {x: middle.x - w / 2, y: middle.y - 9, width: w, height: 18, rx: 5}, element);
    make("text", {x: middle.x, y: middle.y + 4.5}, element, text);
    return {element, layer: "labels", shows: text + now};
  }

  // Draws what is in sight and not there yet, or after a step has changed, and takes away what is not in sight.
  function draw(stepped = false) {
    world.setAttribute("transform", `translate(${view.x},${view.y}) scale(${view.k})`);
    svg.classList.toggle("far", view.k < 0.3);
    const {w, h} = size(), margin = 60;
    const left = (-view.x - margin) / view.k, top = (-view.y - margin) / view.k;
    const right = left + (w + 2 * margin) / view.k, bottom = top + (h + 2 * margin) / view.k;
    const inSight = (x0, y0, x1, y1) => x1 >= left && x0 <= right && y1 >= top && y0 <= bottom;
    const moment = momentNow(), seen = new Set();
    const put = (key, item, maker) => {
      const before = drawn.get(key);
      const made = before && !stepped ? before : maker();
      if (!made) return null;
      seen.add(key);
      if (before && before.shows === made.shows) return before;
      made.element.source = item;
      const focused = before && before.element.contains(document.activeElement);
      if (before) before.element.replaceWith(made.element);
      else $$(made.layer).append(made.element);
      if (focused) made.element.focus();
      drawn.set(key, made);
      return made;
    };
    for (const box of plan.boxes)
      if (inSight(box.x, box.y, box.x + box.w, box.y + box.h)) put(box, box.item, () => (box.open ? drawFrame(box) : drawCard(box, moment)));
    for (const link of plan.links) {
      link.extent ||= extentOf(link.points);
      if (!inSight(...link.extent)) continue;
      const path = put(link, null, () => drawLink(link));
      if (view.k >= 0.3) put(link.points, null, () => drawLabel(link, path.element, moment));
    }
    for (const [key, {element}] of drawn)
      if (!seen.has(key)) {
        element.remove();
        drawn.delete(key);
      }
  }

  function extentOf(points) {
    const xs = points.map((point) => point.x), ys = points.map((point) => point.y);
    return [Math.min(...xs) - 40, Math.min(...ys) - 20, Math.max(...xs) + 40, Math.max(...ys) + 20];
  }

  // ---------------------------------------------------------------- steps

  function go(step, follow = true) {
    at = Math.max(0, Math.min(steps.length, step));
    chosen = null;
    update();
    if (follow && at > 0) reveal(plan.boxOf.get(steps[at - 1].owner));
  }

  function update() {
    const step = steps[at - 1];
    slider.value = at;
    const phase = !step ? "" : step.pass ? `Backward${data.passes > 1 ? ` ${step.pass}` : ""}, step ` : "Forward, step ";
    $$("status").textContent = step ? `${phase}${at} of ${steps.length}: ${sentenceOf(model, step)}` : sentenceOf(model, step);
    $$("status").title = $$("status").textContent;
    slider.setAttribute("aria-valuetext", $$("status").textContent);
    for (const id of ["first", "previous"]) $$(id).disabled = at === 0;
    for (const id of ["next", "last"]) $$(id).disabled = at === steps.length;
    draw(true);
    const item = chosen || (step && step.owner);
    showDetails(panel, model, data, item, momentNow(), step && step.owner === item ? step : null);
  }

  function play(on = !player) {
    clearInterval(player);
    player = on ? setInterval(() => (at < steps.length ? go(at + 1) : play(false)), 900) : 0;
    if (on && at === steps.length) go(0);
    $$("play").textContent = player ? "Pause" : "▶ Play";
    $$("play").setAttribute("aria-label", player ? "Pause" : "Play");
  }

  // Goes to the step of a node in the present direction; of what has no step of its own, shows the details.
  function choose(item) {
    play(false);
    const step = steps[at - 1], mine = steps.map((each, i) => [each, i + 1]).filter(([each]) => each.owner === item);
    const there = mine.find(([each]) => step && each.pass === step.pass) || (mine.length && mine[0]);
    if (there) go(there[1], false);
    chosen = item;
    update();
  }

  // ---------------------------------------------------------------- folding

  function toggle(group, open = !opened.has(group.index)) {
    if (group === model.root || open === opened.has(group.index)) return;
    const before = plan.boxOf.get(group);
    if (open) opened.add(group.index);
    else {
      for (const inner of model.groups) if (inner.begin >= group.begin && inner.end <= group.end && inner.depth >= group.depth) opened.delete(inner.index);
    }
    rearrange();
    const after = plan.boxOf.get(group);
    if (before && after) move(view.x + (before.x - after.x) * view.k, view.y + (before.y - after.y) * view.k, view.k);
  }

  function rearrange() {
    chosen = null;
    arrange();
    update();
  }

  // Groups in sight that are folded, if what they hold can still be drawn.
  function nextLevel() {
    const folded = plan.boxes.filter((box) => !box.open && box.item.isGroup).map((box) => box.item);
    const more = folded.reduce((sum, group) => sum + group.members.length, plan.boxes.length);
    return more <= 3000 ? folded : [];
  }

  // ---------------------------------------------------------------- the view

  function move(x, y, k) {
    cancelAnimationFrame(tween);
    Object.assign(view, {x, y, k});
    draw();
  }

  function glide(x, y, k) {
    cancelAnimationFrame(tween);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return move(x, y, k);
    const from = {...view}, start = performance.now();
    const frame = (now) => {
      const t = Math.min(1, (now - start) / 220), s = t * (2 - t);
      Object.assign(view, {x: from.x + s * (x - from.x), y: from.y + s * (y - from.y), k: from.k + s * (k - from.k)});
      draw();
      if (t < 1) tween = requestAnimationFrame(frame);
    };
    tween = requestAnimationFrame(frame);
  }

  function zoom(factor, x = size().w / 2, y = size().h / 2) {
    const k = Math.max(0.02, Math.min(4, view.k * factor));
    move(x - ((x - view.x) * k) / view.k, y - ((y - view.y) * k) / view.k, k);
  }

  // All of it, but no larger than life; with least: no smaller than can be read, from its beginning.
  function fit(least = 0) {
    const {w, h} = size();
    const whole = Math.min(1.3, (w - 24) / plan.width, (h - 24) / plan.height), k = Math.max(whole, least);
    const x = k > whole && plan.width * k > w ? 12 : (w - plan.width * k) / 2;
    const y = k > whole && plan.height * k > h ? 12 : (h - plan.height * k) / 2;
    move(x, y, k);
  }

  // Brings a box into sight, by the shortest way.
  function reveal(box) {
    if (!box) return;
    const {w, h} = size(), k = Math.max(view.k, 0.4);
    const x = w / 2 - ((w / 2 - view.x) * k) / view.k, y = h / 2 - ((h / 2 - view.y) * k) / view.k;
    const into = (place, length, room) => {
      const margin = Math.min(24, Math.max(0, (room - length) / 2));
      return Math.max(0, margin - place) - Math.max(0, place + Math.min(length, room - 2 * margin) + margin - room);
    };
    const dx = into(x + box.x * k, box.w * k, w), dy = into(y + box.y * k, box.h * k, h);
    if (dx || dy || k !== view.k) glide(x + dx, y + dy, k);
  }

  // ---------------------------------------------------------------- keys, buttons, mouse

  const actions = {
    first: () => go(0), previous: () => go(at - 1), next: () => go(at + 1), last: () => go(steps.length), play: () => play(),
    in: () => zoom(1.25), out: () => zoom(0.8), fit: () => fit(),
    fold: () => (opened.clear(), opened.add(0), rearrange(), fit(0.45)),
    unfold: () => (nextLevel().forEach((group) => opened.add(group.index)), rearrange()),
  };
  const KEYS = {ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last", " ": "play", "+": "in", "=": "in", "-": "out", f: "fit"};
  for (const [id, action] of Object.entries(actions))
    $$(id).addEventListener("click", () => {
      if (!["play", "in", "out", "fit"].includes(id)) play(false);
      action();
    });
  slider.addEventListener("input", () => {
    play(false);
    go(Number(slider.value));
  });
  document.addEventListener("keydown", (event) => {
    const {target} = event, name = KEYS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && svg.contains(target)) return press(target);
    if (!name || (target === slider && /^(Arrow|Home|End)/.test(event.key)) || (event.key === " " && target.tagName === "BUTTON")) return;
    event.preventDefault();
    if (/^(Arrow|Home|End)/.test(event.key)) play(false);
    actions[name]();
  });

  function press(target) {
    const element = target.closest(".card, .frame > g");
    if (!element) return;
    const item = (element.source || element.parentNode.source);
    if (item.isGroup) toggle(item);
    else choose(item);
  }

  let drag = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button === 0) drag = {x: event.clientX, y: event.clientY, from: {...view}, moved: false, target: event.target};
  });
  window.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag.moved = true;
    svg.classList.add("dragged");
    move(drag.from.x + dx, drag.from.y + dy, view.k);
  });
  window.addEventListener("pointerup", () => {
    if (drag && !drag.moved && svg.contains(drag.target)) press(drag.target);
    drag = null;
    svg.classList.remove("dragged");
  });
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }, {passive: false});
  window.addEventListener("resize", draw);

  const operations = model.nodes.filter((node) => node.operation !== undefined).length;
  $$("counts").textContent = `${operations.toLocaleString("en")} operations, ${(model.nodes.length - operations).toLocaleString("en")} tensors and numbers, ${data.passes ? `${data.passes} backward pass${data.passes > 1 ? "es" : ""}` : "no backward pass"}`;
  arrange();
  fit(0.4);
  update();

  window.picture = {
    state: () => ({
      step: at, steps: steps.length, phase: at ? (steps[at - 1].pass ? "backward" : "forward") : "start",
      node: at ? nameOf(steps[at - 1].owner) : null, playing: player !== 0, zoom: view.k, drawn: plan.boxes.length, elements: drawn.size,
      folded: plan.boxes.filter((box) => box.item.isGroup && !box.open).map((box) => box.item.title),
      open: [...opened].filter((index) => index).map((index) => model.groups[index].title), nodes: model.nodes.length,
    }),
    go, fit, isDrawn: (name) => plan.boxOf.has(model.nodes.find((node) => node.name === name)),
    fold: (title) => toggle(model.groups.find((group) => group.title === title), false),
    unfold: (title) => toggle(model.groups.find((group) => group.title === title), true),
  };
})();
