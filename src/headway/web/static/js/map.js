// A street on a canvas: roads once, on a layer of their own; vehicles and signals at each frame, moved between what is known.
const KINDS = ["#2f6fde", "#b06fd8", "#8a6d3b", "#26a69a", "#c2185b", "#ff1744"];
const LIGHTS = { "-2": "#f2b600", "-1": "#d92d20", 1: "#d92d20", 2: "#f2b600", 3: "#6fbf3b", 4: "#12a150" };

export class StreetMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.ctx = canvas.getContext("2d");
    this.roads = document.createElement("canvas");
    this.shapes = null;
    this.before = this.now = null;
    this.shown = [];
    this.view = { x: 0, y: 0, scale: 1 };
    this.frames = 0;
    this._hand();
    new ResizeObserver(() => this.fit()).observe(canvas);
    const draw = (t) => { this._draw(t); requestAnimationFrame(draw); };
    requestAnimationFrame(draw);
  }

  setShapes(shapes) {
    this.shapes = shapes;
    this.before = this.now = null;
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const [, points] of shapes.lanes)
      for (const [x, y] of points) { x0 = Math.min(x0, x); y0 = Math.min(y0, y); x1 = Math.max(x1, x); y1 = Math.max(y1, y); }
    const heads = shapes.signals.filter((s) => s[0] || s[1]);
    if (heads.length) {  // what matters lies around the signals
      x0 = Math.max(x0, Math.min(...heads.map((s) => s[0])) - 150); x1 = Math.min(x1, Math.max(...heads.map((s) => s[0])) + 150);
      y0 = Math.max(y0, Math.min(...heads.map((s) => s[1])) - 150); y1 = Math.min(y1, Math.max(...heads.map((s) => s[1])) + 150);
    }
    this.box = [x0, y0, x1, y1];
    this.fit();
  }

  setScene(scene, shown) {
    const t = performance.now(), at = new Map();
    scene.id.forEach((id, i) => at.set(id, i));
    this.before = this.now;
    this.now = { scene, at, t, gap: this.now ? Math.min(t - this.now.t, 1000) : 100 };
    this.shown = shown;
  }

  fit() {
    const { canvas } = this, ratio = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    if (!this.box) return;
    const [x0, y0, x1, y1] = this.box;
    this.view.scale = Math.min(canvas.width / (x1 - x0 || 1), canvas.height / (y1 - y0 || 1)) * 0.96;
    this.view.x = (x0 + x1) / 2;
    this.view.y = (y0 + y1) / 2;
    this._paintRoads();
  }

  move(dx, dy, zoom = 1) {
    this.view.x -= dx / this.view.scale;
    this.view.y += dy / this.view.scale;
    this.view.scale = Math.min(Math.max(this.view.scale * zoom, 0.02), 60);
    this._paintRoads();
  }

  _hand() {
    const { canvas } = this, ratio = () => devicePixelRatio || 1;
    let from = null;
    canvas.addEventListener("pointerdown", (e) => { from = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointermove", (e) => {
      if (!from) return;
      this.move((e.clientX - from[0]) * ratio(), (e.clientY - from[1]) * ratio());
      from = [e.clientX, e.clientY];
    });
    canvas.addEventListener("pointerup", () => { from = null; });
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.move(0, 0, e.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
    canvas.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[e.key];
      if (step) { e.preventDefault(); this.move(...step); }
      if (e.key === "+" || e.key === "-") this.move(0, 0, e.key === "+" ? 1.25 : 0.8);
      if (e.key === "0") this.fit();
    });
  }

  _place(ctx) {
    const { canvas, view } = this;
    ctx.setTransform(view.scale, 0, 0, -view.scale, canvas.width / 2 - view.x * view.scale, canvas.height / 2 + view.y * view.scale);
  }

  _paintRoads() {
    if (!this.shapes) return;
    const { roads, canvas } = this, style = getComputedStyle(document.documentElement);
    roads.width = canvas.width;
    roads.height = canvas.height;
    const ctx = roads.getContext("2d");
    this._place(ctx);
    ctx.fillStyle = style.getPropertyValue("--junction");
    for (const outline of this.shapes.junctions) {
      ctx.beginPath();
      outline.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
      ctx.fill();
    }
    ctx.strokeStyle = style.getPropertyValue("--road");
    ctx.lineCap = "round";
    for (const [width, points] of this.shapes.lanes) {
      ctx.lineWidth = Math.max(width * 0.9, 1 / this.view.scale);
      ctx.beginPath();
      points.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
      ctx.stroke();
    }
  }

  repaint() { this._paintRoads(); }

  _draw(t) {
    if (!this.shapes || !this.roads.width || !this.roads.height) return;
    this.frames += 1;
    const { ctx, canvas } = this;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    ctx.drawImage(this.roads, 0, 0);
    this._place(ctx);
    const dot = Math.max(1.6, 3 / this.view.scale);
    this.shapes.signals.forEach(([x, y], g) => {
      const light = LIGHTS[this.shown[g]];
      if (light && (x || y)) { ctx.fillStyle = light; ctx.fillRect(x - dot / 2, y - dot / 2, dot, dot); }
    });
    if (!this.now) return;
    const { scene, t: at, gap } = this.now, part = Math.min((t - at) / gap, 1.2);
    for (let i = 0; i < scene.id.length; i++) {
      let x = scene.at[2 * i], y = scene.at[2 * i + 1];
      const k = this.before?.at.get(scene.id[i]);
      if (k !== undefined) {
        const px = this.before.scene.at[2 * k], py = this.before.scene.at[2 * k + 1];
        if (Math.abs(px - x) + Math.abs(py - y) < 150) { x = px + (x - px) * part; y = py + (y - py) * part; }
      }
      const turn = (scene.angle[i] * Math.PI) / 180, dx = Math.sin(turn), dy = Math.cos(turn);
      const long = Math.max(scene.length[i], 5 / this.view.scale);
      ctx.strokeStyle = scene.speed[i] < 0.1 && scene.kind[i] !== 5 ? "#e08a1e" : KINDS[scene.kind[i]];
      ctx.lineWidth = Math.max(scene.kind[i] === 3 ? 0.9 : 2, 2.5 / this.view.scale);
      ctx.beginPath();
      ctx.moveTo(x, y);
      ctx.lineTo(x - dx * long, y - dy * long);
      ctx.stroke();
    }
  }
}
