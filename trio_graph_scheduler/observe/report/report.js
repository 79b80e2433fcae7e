"use strict";
// All text comes from the data and goes in as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function add(parent, tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  parent.append(element);
  return element;
}

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function seconds(time) {
  const rounded = Number(time.toPrecision(3));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3], ["µs", 1e-6]])
    if (rounded >= size) return `${Number((rounded / size).toPrecision(3))} ${unit}`;
  return "0 s";
}
const percent = (share) => `${Math.round(share * 100)} %`;

function chip(parent, tag, state, text) {
  const look = data.states[state];
  const element = add(parent, tag, `${look.symbol} ${text}`, "chip");
  Object.assign(element.style, { background: look.fill, color: look.ink, borderColor: look.border });
  return element;
}

function table(parent, heads, rows) {
  const element = add(parent, "table");
  const head = add(add(element, "thead"), "tr");
  for (const [text, className] of heads) add(head, "th", text, className).scope = "col";
  const body = add(element, "tbody");
  for (const row of rows) {
    const line = add(body, "tr");
    row.forEach((cell, column) => {
      const place = add(line, "td", undefined, heads[column][1]);
      if (cell instanceof Node) place.append(cell);
      else place.textContent = cell;
    });
  }
}

// Head ------------------------------------------------------------------------------------------------------

document.title = `${data.name}: report of a task graph`;
byId("title").textContent = data.name;
for (const [what, figure] of data.figures) {
  const pair = add(byId("figures"), "div");
  add(pair, "dt", what);
  add(pair, "dd", figure);
}
for (const [state, look] of Object.entries(data.states))
  if (look.count) chip(add(byId("legend"), "li"), "span", state, `${look.count.toLocaleString("en")} ${state}`);

// Graph -----------------------------------------------------------------------------------------------------

function drawGraph({ note, boxes, arrows, width, height }) {
  byId("graph-note").textContent = note;
  const top = 24;
  const svg = draw(byId("graph"), "svg", { width: width + 40, height: height + top + 8, role: "img" });
  svg.setAttribute("viewBox", `-2 ${-top} ${width + 40} ${height + top + 8}`);
  draw(svg, "title", {}, note);
  const marker = draw(draw(svg, "defs", {}), "marker", {
    id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto",
  });
  draw(marker, "path", { d: "M0,0.5 L8,4 L0,7.5 z" });
  const outOf = {}, into = {};
  for (const { first, then } of arrows) {
    outOf[first] = (outOf[first] || 0) + 1;
    into[then] = (into[then] || 0) + 1;
  }
  for (const { first, then, points, lines, spawned } of arrows) {
    const from = boxes[first], to = boxes[then];
    let path;
    const stops = points.map(([x, y]) => [x, y]);
    if (first === then) {
      const right = from.x + from.w / 2, y = from.y - from.h / 2;
      path = `M${right - 24},${y} C${right - 20},${y - 22} ${right + 14},${y - 18} ${right},${y + 8}`;
    } else {
      const back = points[0][0] >= points[points.length - 1][0] ? -1 : 1;
      stops[0][0] += (back * from.w) / 2;
      stops[stops.length - 1][0] -= (back * to.w) / 2;
      path = `M${stops[0]}`;
      for (let i = 1; i < stops.length; i++) {
        const [x1, y1] = stops[i - 1], [x2, y2] = stops[i], bend = (x2 - x1) / 2;
        path += ` C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
      }
    }
    draw(svg, "path", {
      d: path, class: spawned ? "arrow spawned" : "arrow", "marker-end": "url(#head)",
    });
    // Where many arrows come together their labels would lie on each other.
    const [near, next] = outOf[first] < into[then] ? stops : stops.slice(-2);
    lines.forEach((line, i) => draw(svg, "text", {
      x: first === then ? from.x + from.w / 2 - 20 : (near[0] + next[0]) / 2,
      y: (first === then ? from.y - from.h / 2 - 18 : (near[1] + next[1]) / 2 + 3) + 11 * i,
      "text-anchor": "middle", class: "label",
    }, line));
  }
  for (const { x, y, w, h, lines, state } of Object.values(boxes)) {
    const look = data.states[state] || { fill: "", border: "", ink: "" };
    const box = draw(svg, "g", { class: state ? "" : "joint" });
    draw(box, "rect", {
      x: x - w / 2, y: y - h / 2, width: w, height: h, rx: 4, fill: look.fill, stroke: look.border,
    });
    lines.forEach((line, i) => draw(box, "text", {
      x: x - w / 2 + 8, y: y - h / 2 + 16 + 14 * i, fill: look.ink, "font-weight": i ? 400 : 600,
    }, line));
  }
}
drawGraph(data.graph);

// Timeline --------------------------------------------------------------------------------------------------

const LANE = 18, LEFT = 120, TOP = 22;

function timeline({ note, lanes, runs, duration }) {
  byId("timeline-note").textContent = note;
  const canvas = byId("timeline").querySelector("canvas"), tip = byId("tip");
  const context = canvas.getContext("2d");
  const least = duration / 1e6 || 1e-9;
  let from = 0, to = duration || 1;

  const wide = () => canvas.clientWidth - LEFT - 10;
  const xOf = (time) => LEFT + ((time - from) / (to - from)) * wide();
  const timeAt = (x) => from + ((x - LEFT) / wide()) * (to - from);

  function show(begin, end) {
    const length = Math.min(Math.max(end - begin, least), duration || 1);
    from = Math.min(Math.max(0, begin), (duration || 1) - length);
    to = from + length;
    paint();
  }
  function zoom(factor, around = (from + to) / 2) {
    show(around - (around - from) * factor, around + (to - around) * factor);
  }

  function paint() {
    const style = getComputedStyle(document.documentElement);
    const [ink, soft, line, mark] = ["--ink", "--soft", "--line", "--mark"].map((name) => style.getPropertyValue(name));
    const height = TOP + lanes.length * LANE + 6, ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    context.textBaseline = "middle";
    const step = niceStep((to - from) / Math.max(2, wide() / 90));
    for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
      context.fillStyle = line;
      context.fillRect(xOf(time), TOP - 6, 1, height);
      context.fillStyle = soft;
      context.fillText(seconds(Math.round(time / step) * step), xOf(time) + 3, TOP / 2);
    }
    context.fillStyle = mark;
    for (const began of runs.slice(1)) context.fillRect(xOf(began), 0, 2, height);
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP, wide() + 10, height);
    context.clip();
    lanes.forEach((lane, row) => paintLane(lane.slices, TOP + row * LANE, mark));
    context.restore();
    context.fillStyle = ink;
    lanes.forEach((lane, row) => context.fillText(fitted(lane.name, LEFT - 14, true), 8, TOP + (row + 0.5) * LANE));
  }

  function paintLane(slices, y, mark) {
    for (const [start, end, state, text, , critical] of slices) {
      if (end < from || start > to) continue;
      const x = xOf(start), w = Math.max(1, xOf(end) - x), look = data.states[state];
      // Of a short one the fill would hardly be seen.
      context.globalAlpha = w < 4 ? 0.6 : 1;
      context.fillStyle = w < 4 ? look.border : look.fill;
      context.fillRect(x, y + 2, w, LANE - 4);
      context.globalAlpha = 1;
      if (w >= 4) {
        context.strokeStyle = look.border;
        context.lineWidth = 1;
        context.strokeRect(x + 0.5, y + 2.5, w - 1, LANE - 5);
      }
      if (critical) {
        context.fillStyle = mark;
        context.fillRect(x, y + LANE - 4, w, 3);
      }
      if (w > 24) {
        const visible = Math.max(x, LEFT);
        context.fillStyle = look.ink;
        context.fillText(fitted(text, x + w - visible - 8), visible + 4, y + LANE / 2);
      }
    }
  }

  function fitted(text, room, fromEnd = false) {
    if (context.measureText(text).width <= room) return text;
    const cut = (most) => (fromEnd ? `…${text.slice(text.length - most)}` : `${text.slice(0, most)}…`);
    let most = Math.max(0, Math.floor(room / 4));
    while (most && context.measureText(cut(most)).width > room) most--;
    return most ? cut(most) : "";
  }

  function niceStep(rough) {
    if (rough > 10) {
      const round = [15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400].find((n) => n >= rough);
      if (round) return round;
    }
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  }

  canvas.addEventListener("pointermove", (event) => {
    const lane = lanes[Math.floor((event.offsetY - TOP) / LANE)], time = timeAt(event.offsetX);
    const near = 2 * ((to - from) / wide());
    const slice = lane && event.offsetX > LEFT && lane.slices.find(([start, end]) => start - near <= time && time <= end + near);
    tip.hidden = !slice;
    if (!slice) return;
    const [start, end, state, text, detail, critical] = slice;
    tip.textContent = [
      text, `${data.states[state].symbol} ${state}, ${seconds(end - start)} from ${seconds(start)} on`, lane.name,
      ...(detail ? [detail] : []), ...(critical ? ["on the critical path"] : []),
    ].join("\n");
    const room = canvas.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(0, Math.min(event.offsetX + 14, room))}px`;
    tip.style.top = `${event.offsetY + 16}px`;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    let last = event.clientX;
    const move = (moved) => {
      const shift = ((last - moved.clientX) / wide()) * (to - from);
      last = moved.clientX;
      show(from + shift, to + shift);
    };
    canvas.addEventListener("pointermove", move);
    const stop = () => canvas.removeEventListener("pointermove", move);
    canvas.addEventListener("pointerup", stop, { once: true });
    canvas.addEventListener("pointercancel", stop, { once: true });
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event.offsetX));
  }, { passive: false });
  byId("closer").addEventListener("click", () => zoom(0.5));
  byId("farther").addEventListener("click", () => zoom(2));
  byId("whole").addEventListener("click", () => show(0, duration));
  new ResizeObserver(() => requestAnimationFrame(paint)).observe(byId("timeline"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
}
timeline(data.timeline);

// Where the time went ---------------------------------------------------------------------------------------

function bar(share) {
  const line = document.createElement("span");
  add(line, "span", undefined, "bar").style.width = `${Math.max(0.1, share * 6)}em`;
  line.append(` ${percent(share)}`);
  return line;
}

function profile({ path, left_out: leftOut, groups, waits, replay }) {
  const place = byId("profile");
  add(place, "h3", "Critical path");
  add(place, "p", path.length
    ? "The chain of trials that determined when the run ended. Only what shortens one of its steps can make the run shorter."
    : "Nothing has run.", "note");
  if (leftOut) add(place, "p", `${leftOut.toLocaleString("en")} steps that took the least time are left out.`, "note");
  if (path.length) table(add(place, "div", undefined, "scroll"), [
    ["share", "fits"], ["task"], ["READY, because", "fits"], ["before that", "number"], ["waited for a place", "number"], ["ran", "number"],
  ], path.map(([share, name, cause, delay, waited, ran]) => [
    bar(share), name, cause, seconds(delay), seconds(waited), seconds(ran),
  ]));
  const columns = add(place, "div", undefined, "columns");
  const left = add(columns, "div"), right = add(columns, "div");
  add(left, "h3", "Idle places");
  add(left, "p", "While no task of a group is READY its places are free until the next one is.", "note");
  for (const { name, limit, share, idle, reasons } of groups) {
    add(left, "h3", `${name}, limit ${limit}`);
    table(left, [["place-seconds", "number"], ["idle"]], [
      [seconds(idle), bar(share)], ...reasons.map(([reason, time]) => [seconds(time), reason]),
    ]);
  }
  add(right, "h3", "Longest waits for a place");
  if (waits.length) table(right, [["waited", "number"], ["task"], ["group"]], waits.map(([time, name, group]) => [seconds(time), name, group]));
  else add(right, "p", "No task has waited for a place.", "note");
  add(right, "h3", "What a larger limit would bring");
  add(right, "p", replay.note, "note");
  if (replay.rows.length) table(right, [["group"], ["limit", "number"], ["then it takes", "number"], ["less by", "number"]],
    replay.rows.map(([group, limit, time, gain]) => [group, limit, seconds(time), gain < 0 ? `−${seconds(-gain)}` : seconds(gain)]));
}
profile(data.profile);

// Tasks -----------------------------------------------------------------------------------------------------

function taskTable({ note, rows }) {
  byId("tasks-note").textContent = note;
  const columns = [
    ["uid", "number"], ["name"], ["type"], ["group"], ["state", "fits"], ["trials", "number"],
    ["waited", "number", seconds], ["start", "number", seconds], ["ran", "number", seconds], ["error or reason"],
  ];
  const head = add(byId("tasks").tHead, "tr"), body = byId("tasks").tBodies[0];
  let sorted = 0, direction = 1;
  const states = [...new Set(rows.map((row) => row[4]))];
  for (const state of Object.keys(data.states)) if (states.includes(state)) add(byId("state"), "option", state).value = state;
  const heads = columns.map(([name, className], column) => {
    const place = add(head, "th", undefined, className);
    place.scope = "col";
    const button = add(place, "button", name);
    button.type = "button";
    button.addEventListener("click", () => {
      direction = sorted === column ? -direction : 1;
      sorted = column;
      fill();
    });
    return place;
  });
  const texts = rows.map((row) => row.filter((cell) => typeof cell === "string").join("\n").toLowerCase());

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === "string" ? a.localeCompare(b) : a - b);
  }
  function fill() {
    const wanted = byId("find").value.toLowerCase(), state = byId("state").value;
    const chosen = rows.filter((row, i) => (!state || row[4] === state) && texts[i].includes(wanted));
    chosen.sort((a, b) => compare(a[sorted], b[sorted]));
    heads.forEach((place, column) => {
      if (column === sorted) place.ariaSort = direction > 0 ? "ascending" : "descending";
      else place.removeAttribute("aria-sort");
    });
    byId("found").textContent = `${chosen.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
    body.replaceChildren();
    for (const row of chosen) {
      const line = add(body, "tr");
      row.forEach((cell, column) => {
        const [, className, shown] = columns[column];
        const place = add(line, "td", undefined, className);
        if (column === 4) chip(place, "span", cell, cell);
        else place.textContent = cell === null ? "" : shown ? shown(cell) : cell;
      });
    }
  }
  byId("find").addEventListener("input", fill);
  byId("state").addEventListener("change", fill);
  fill();
}
taskTable(data.tasks);
