"use strict";
// Where things stand: layers from left to right, groups as boxes within boxes, long graphs in lines as text is.
// Nothing here knows the page. All of it takes n log n steps at most, for n nodes and edges that are drawn.

const GAP = {y: 18, line: 40, pad: 16, title: 26};

// The graph as objects: every node and every group with its parent, its edges and its place in forward order.
function modelOf(data) {
  const nodes = data.nodes.map((node, index) => ({...node, index, inputs: [], uses: [], visits: []}));
  const edges = data.edges.map((edge, index) => {
    const made = {...edge, index, source: nodes[edge.source], target: nodes[edge.target]};
    made.source.uses.push(made);
    made.target.inputs.push(made);
    return made;
  });
  const groups = [], order = [];
  const enter = (raw, parent, depth) => {
    const group = {...raw, parent, depth, isGroup: true, begin: order.length};
    groups[group.index] = group;
    group.members = raw.members.map((member) => {
      if (typeof member !== "number") return enter(member, group, depth + 1);
      const node = nodes[member];
      Object.assign(node, {parent: group, depth: depth + 1, rank: order.length});
      order.push(node);
      return node;
    });
    group.end = order.length;
    return group;
  };
  const root = enter(data.root, null, 0);
  const events = data.events.map((event, index) => ({...event, index, node: nodes[event.node]}));
  for (const event of events) {
    if (event.pass === 0) event.node.computed = event.index;
    else event.node.visits.push(event);
    for (const sent of event.sent || []) sent[0] = edges[sent[0]];
  }
  return {nodes, edges, groups, order, root, events};
}

// For each node what stands for it on the page: itself, or the outermost group around it that is folded.
function shownFor(model, opened) {
  const shown = new Array(model.nodes.length);
  const walk = (group) => {
    for (const member of group.members) {
      if (member.isGroup && opened.has(member.index)) walk(member);
      else if (!member.isGroup) shown[member.index] = member;
      else for (let i = member.begin; i < member.end; ++i) shown[model.order[i].index] = member;
    }
  };
  walk(model.root);
  return shown;
}

// {boxes, links, width, height}. boxes: {item, x, y, w, h, open}; links: {from, to, edges, points}.
// measure(item): the size of a node or a group's title. style: {aspect, gap}, of the page and between layers.
function layout(model, opened, measure, style) {
  const shown = shownFor(model, opened);
  const boxes = new Map(), links = linksBetween(model, shown);
  const within = new Map(model.groups.map((group) => [group, []]));  // the parts of links in each open group
  for (const link of links) {
    link.parts = partsOf(link);
    for (const part of link.parts) within.get(part.group).push(part);
  }
  const size = (item) => {
    if (item.isGroup && opened.has(item.index)) return arrange(item);
    const box = {item, open: false, ...measure(item)};
    boxes.set(item, box);
    return box;
  };
  const arrange = (group) => {
    const members = group.members.map(size);
    const box = place(members, within.get(group), group.parent ? GAP.title : 0, style);
    Object.assign(box, {item: group, open: true, w: Math.max(box.w, group.parent ? measure(group).w : 0)});
    boxes.set(group, box);
    return box;
  };
  const whole = arrange(model.root);
  const settle = (box, x, y) => {
    Object.assign(box, {x, y});
    if (box.open) for (const inner of box.inner) settle(inner, x + inner.dx, y + inner.dy);
  };
  settle(whole, 0, 0);
  route(links, boxes);
  boxes.delete(model.root);
  return {boxes: [...boxes.values()], links, width: whole.w, height: whole.h, shown};
}

// One link for all edges between two drawn things; nodes that are used twice by one operation have two.
function linksBetween(model, shown) {
  const found = new Map(), links = [];
  for (const edge of model.edges) {
    const from = shown[edge.source.index], to = shown[edge.target.index];
    if (from === to) continue;
    const nodes = !from.isGroup && !to.isGroup;
    const key = `${from.isGroup ? "g" : "n"}${from.index} ${to.isGroup ? "g" : "n"}${to.index}`;
    const known = nodes ? undefined : found.get(key);
    if (known) known.edges.push(edge);
    else {
      const link = {from, to, edges: [edge]};
      links.push(link);
      if (!nodes) found.set(key, link);
    }
  }
  return links;
}

// The way of a link: out of the groups around its beginning, within the innermost group around both ends, and into the
// groups around its end. Each part leads from one member of a group to another, or from or to the group's own side.
function partsOf(link) {
  let a = link.from, b = link.to;
  const out = [], into = [];
  const leave = () => (out.push({group: a.parent, a, b: null}), (a = a.parent));
  const enter = () => (into.unshift({group: b.parent, a: null, b}), (b = b.parent));
  while (a.depth > b.depth) leave();
  while (b.depth > a.depth) enter();
  while (a.parent !== b.parent) leave(), enter();
  return [...out, {group: a.parent, a, b}, ...into];
}

// Places the members of one group in layers; returns the group's own box.
function place(members, parts, title, style) {
  const cells = members.map((box, rank) => ({box, rank, w: box.w, h: box.h, before: [], after: []}));
  const cellOf = new Map(cells.map((cell) => [cell.box.item, cell]));
  const door = (rank, layer) => ({door: true, rank, layer, w: 0, h: 10, before: [], after: []});
  const pairs = new Map(), doors = [];
  for (const part of parts) {
    const a = part.a && cellOf.get(part.a), b = part.b && cellOf.get(part.b);
    const key = (a ? a.rank : -1) * (cells.length + 1) + (b ? b.rank : cells.length);
    if (!pairs.has(key)) {
      const pair = {a: a || door(-1, -Infinity), b: b || door(cells.length, Infinity), bends: []};
      pairs.set(key, pair);
      doors.push(...[pair.a, pair.b].filter((cell) => cell.door));
      if (a && b) {
        a.after.push(b);
        b.before.push(a);
      }
    }
    part.pair = pairs.get(key);
  }
  // Members come in forward order: the longest way to each is known before it is gone on from.
  for (const cell of cells) cell.layer = 1 + Math.max(-1, ...few(cell.before).map((other) => other.layer));
  // What nothing comes before stands next to what it is for.
  for (const cell of cells.slice().reverse())
    if (!cell.before.length && cell.after.length) cell.layer = Math.min(...few(cell.after).map((other) => other.layer)) - 1;
  const extremes = few(cells).map((cell) => cell.layer);
  const least = Math.min(...extremes) - (doors.some((cell) => cell.layer < 0) ? 1 : 0), most = Math.max(...extremes) + 1;
  const layers = [];
  for (const cell of [...cells, ...doors]) {
    cell.layer = Math.max(least, Math.min(most, cell.layer)) - least;
    (layers[cell.layer] ||= []).push(cell);
  }
  for (let i = 0; i < layers.length; ++i) layers[i] ||= [];
  connect(pairs, [...cells, ...doors], layers);
  order(layers);
  return position(layers, cells, pairs, title, style);
}

// An array that is short enough to be spread over arguments; its extremes are all that is asked for.
function few(cells) {
  if (cells.length < 1000) return cells;
  let low = cells[0], high = cells[0];
  for (const cell of cells) {
    if (cell.layer < low.layer) low = cell;
    if (cell.layer > high.layer) high = cell;
  }
  return [low, high];
}

// Makes neighbours of cells in layers side by side. A link over several layers gets a place in each of them, so that it
// goes around what stands there; where there are too many it goes straight.
function connect(pairs, cells, layers) {
  for (const cell of cells) cell.before = [], cell.after = [];
  let most = 4 * cells.length + 100;
  for (const pair of pairs.values()) {
    const length = pair.b.layer - pair.a.layer;
    let last = pair.a;
    if (length <= most) {
      most -= length - 1;
      for (let layer = pair.a.layer + 1; layer < pair.b.layer; ++layer) {
        const cell = {w: 0, h: 10, layer, rank: pair.a.rank, before: [last], after: []};
        last.after.push(cell);
        layers[layer].push(cell);
        pair.bends.push(cell);
        last = cell;
      }
    }
    last.after.push(pair.b);
    pair.b.before.push(last);
  }
}

// Orders each layer by the mean place of its neighbours, forward and back (Sugiyama, Tagawa and Toda, 1981).
function order(layers) {
  const number = (layer) => layer.forEach((cell, at) => (cell.at = at));
  layers.forEach((layer) => number(layer.sort((a, b) => a.rank - b.rank)));
  for (let sweep = 0; sweep < 6; ++sweep) {
    const side = sweep % 2 ? "after" : "before";
    for (const layer of sweep % 2 ? layers.slice().reverse() : layers) {
      for (const cell of layer) cell.want = meanOf(cell[side], (other) => other.at, cell.at);
      number(layer.sort((a, b) => a.want - b.want || a.rank - b.rank));
    }
  }
}

function meanOf(cells, value, otherwise) {
  let sum = 0;
  for (const cell of cells) sum += value(cell);
  return cells.length ? sum / cells.length : otherwise;
}

// Coordinates: layers in lines, as long as suits the aspect; in a layer each as near to its neighbours as there is room.
function position(layers, cells, pairs, title, {aspect, gap}) {
  const widths = layers.map((layer) => layer.reduce((most, cell) => Math.max(most, cell.w), 0));
  const heights = layers.map((layer) => layer.reduce((sum, cell) => sum + cell.h + GAP.y, -GAP.y));
  const after = layers.map((layer, i) => (widths[i] && widths[i + 1] !== 0 ? gap : gap / 4));  // doors stand at the side
  const total = widths.reduce((sum, w, i) => sum + w + after[i], 0);
  const area = widths.reduce((sum, w, i) => sum + (w + after[i]) * (heights[i] + GAP.line), 0);
  const count = Math.ceil(total / Math.max(1300, Math.sqrt(area * aspect) * 1.1));  // of lines, all about as long
  const lines = [[]];
  let x = 0, done = 0;
  layers.forEach((layer, i) => {
    if (widths[i] && done + widths[i] / 2 > (lines.length * total) / count) {
      lines.push([]);
      x = 0;
    }
    done += widths[i] + after[i];
    for (const cell of layer) Object.assign(cell, {x: x + (widths[i] - cell.w) / 2, line: lines.length - 1});
    lines[lines.length - 1].push(layer);
    x += widths[i] + after[i];
  });
  let top = title + GAP.pad, right = 0;
  for (const line of lines) {
    align(line);
    let low = Infinity, high = -Infinity;
    for (const layer of line)
      for (const cell of layer) {
        low = Math.min(low, cell.y);
        high = Math.max(high, cell.y + cell.h);
        right = Math.max(right, cell.x + cell.w);
      }
    for (const layer of line) for (const cell of layer) Object.assign(cell, {y: cell.y + top - low, lineTop: top});
    top += high - low + GAP.line + (lines.length > 1 ? GAP.y : 0);
  }
  for (const cell of cells) Object.assign(cell.box, {dx: cell.x + GAP.pad, dy: cell.y});
  for (const pair of pairs.values()) {  // what lies on lines between the ends' own is passed at the side
    pair.bends = pair.bends.filter((cell) => cell.line === pair.a.line || cell.line === pair.b.line);
  }
  const inner = cells.map((cell) => cell.box);
  return {inner, w: right + 2 * GAP.pad, h: top - GAP.line - (lines.length > 1 ? GAP.y : 0) + GAP.pad};
}

function align(line) {
  const middle = (cell) => cell.y + cell.h / 2;
  for (const layer of line) {
    let y = 0;
    for (const cell of layer) {
      cell.y = y;
      y += cell.h + GAP.y;
    }
    layer.forEach((cell) => (cell.y -= y / 2));
  }
  for (let sweep = 0; sweep < 6; ++sweep) {
    const side = sweep % 2 ? "after" : "before";
    for (const layer of sweep % 2 ? line.slice().reverse() : line) {
      for (const cell of layer) {
        const near = cell[side].filter((other) => other.line === cell.line);
        cell.want = meanOf(near, middle, middle(cell)) - cell.h / 2;
      }
      spread(layer);
    }
  }
}

// Puts cells in their order at the places nearest to those wanted (least squares) that do not overlap: cells that would
// are joined to blocks, which stand at the mean of what their members want.
function spread(layer) {
  const blocks = [];
  layer.forEach((cell, start) => {
    let block = {start, count: 1, sum: cell.want, h: cell.h + GAP.y};
    while (blocks.length) {
      const last = blocks[blocks.length - 1];
      if (last.sum / last.count + last.h <= block.sum / block.count) break;
      blocks.pop();
      block = {
        start: last.start,
        count: last.count + block.count,
        sum: last.sum + block.sum - block.count * last.h,
        h: last.h + block.h,
      };
    }
    blocks.push(block);
  });
  for (const {start, count, sum} of blocks) {
    let y = sum / count;
    for (let i = start; i < start + count; ++i) {
      layer[i].y = y;
      y += layer[i].h + GAP.y;
    }
  }
}

// Gives each link its points, from the right side of one box to the left side of another.
function route(links, boxes) {
  const ports = (side, other) => {
    const at = new Map();
    for (const link of links) {
      if (!at.has(link[side])) at.set(link[side], []);
      at.get(link[side]).push(link);
    }
    for (const [item, list] of at) {
      const box = boxes.get(item), middle = (link) => boxes.get(link[other]).y + boxes.get(link[other]).h / 2;
      list.sort((a, b) => middle(a) - middle(b) || a.edges[0].index - b.edges[0].index);
      const step = Math.min(20, (box.h - 12) / list.length);
      list.forEach((link, i) => {
        link.port = i - (list.length - 1) / 2;
        link[side + "Y"] = box.y + box.h / 2 + link.port * step;
      });
    }
  };
  ports("from", "to");
  ports("to", "from");
  for (const link of links) {
    const from = boxes.get(link.from), to = boxes.get(link.to);
    link.points = [{x: from.x + from.w, y: link.fromY}];
    link.parts.forEach(({group, pair, b}, i) => {
      const box = boxes.get(group), left = box.x + GAP.pad;
      let last = pair.a;
      const go = (cell, point) => {
        if (cell.line !== last.line) {  // to the beginning of the next line, between the two
          const y = box.y + cell.lineTop - GAP.line / 2;
          link.points.push({x: box.x + box.w - 6, y, turn: true}, {x: box.x + 6, y, turn: true});
        }
        link.points.push(point);
        last = cell;
      };
      const middle = (inside, cell) => inside.y + cell.y + cell.h / 2;
      for (const cell of pair.bends) go(cell, {x: left + cell.x, y: middle(box, cell)});
      if (b === link.to) go(pair.b, {x: to.x, y: link.toY});
      else if (b === null) go(pair.b, {x: box.x + box.w, y: middle(box, pair.b)});
      else go(pair.b, {x: boxes.get(b).x, y: middle(boxes.get(b), link.parts[i + 1].pair.a)});
    });
  }
}

// A link as the path of an SVG: smooth from layer to layer, round corners where it goes to another line.
function pathOf(points) {
  let path = `M${points[0].x},${points[0].y}`;
  for (let i = 1; i < points.length; ++i) {
    const a = points[i - 1], b = points[i];
    if (a.turn && b.turn) path += `L${b.x},${b.y}`;
    else if (a.turn || b.turn) {
      const side = b.turn ? b.x : a.x, y = (a.y + b.y) / 2;
      path += `C${side},${a.y} ${side},${a.y} ${side},${y}S${side},${b.y} ${b.x},${b.y}`;
    } else {
      const bow = Math.max(18, (b.x - a.x) / 2);
      path += `C${a.x + bow},${a.y} ${b.x - bow},${b.y} ${b.x},${b.y}`;
    }
  }
  return path;
}
