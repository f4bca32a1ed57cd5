// The application's icon, drawn once as shapes and written as SVG and PNG: no picture is committed.
import { crc32, deflateSync } from "node:zlib";

interface Shape {
  x: number;
  y: number;
  width: number;
  height: number;
  radius: number;
  colour: string;
}

const GROUND = "#0b5c55";
const SIDE = 64;

/** A purse, from behind to front, on a square of 64: rectangles with round corners. */
const PURSE: readonly Shape[] = [
  { x: 21, y: 15, width: 22, height: 20, radius: 11, colour: "#ffffff" },
  { x: 25, y: 19, width: 14, height: 20, radius: 7, colour: GROUND },
  { x: 14, y: 26, width: 36, height: 25, radius: 8, colour: "#ffffff" },
  { x: 14, y: 33, width: 36, height: 3, radius: 0, colour: GROUND },
  { x: 27.5, y: 30, width: 9, height: 9, radius: 4.5, colour: "#f2b63c" },
];

/** Files by name. A maskable icon fills its square: the system cuts out its own form. */
export function icons(): Record<string, string | Buffer> {
  const plain = [ground(14), ...PURSE];
  const full = [ground(0), ...PURSE];
  return {
    "icon.svg": svg(plain),
    "icon-180.png": png(full, 180),
    "icon-192.png": png(plain, 192),
    "icon-512.png": png(plain, 512),
    "icon-maskable-512.png": png(full, 512),
  };
}

function ground(radius: number): Shape {
  return { x: 0, y: 0, width: SIDE, height: SIDE, radius, colour: GROUND };
}

function svg(shapes: readonly Shape[]): string {
  const drawn = shapes.map(
    ({ x, y, width, height, radius, colour }) =>
      `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="${radius}" fill="${colour}"/>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIDE} ${SIDE}">${drawn.join("")}</svg>\n`;
}

/** Eight bits of red, green, blue and opacity for each pixel; edges are softened over one pixel. */
function png(shapes: readonly Shape[], pixels: number): Buffer {
  const scale = SIDE / pixels;
  const rows = Buffer.alloc(pixels * (1 + pixels * 4));
  for (let row = 0; row < pixels; row++) {
    for (let column = 0; column < pixels; column++) {
      const at = row * (1 + pixels * 4) + 1 + column * 4;
      rows.set(colourAt((column + 0.5) * scale, (row + 0.5) * scale, shapes, scale), at);
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(pixels, 0);
  header.writeUInt32BE(pixels, 4);
  header.set([8, 6, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const parts = [signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND")];
  return Buffer.concat(parts);
}

function colourAt(x: number, y: number, shapes: readonly Shape[], scale: number): number[] {
  let [red, green, blue, opacity] = [0, 0, 0, 0];
  for (const shape of shapes) {
    const covered = Math.min(1, Math.max(0, 0.5 - distance(x, y, shape) / scale));
    if (covered === 0) continue;
    const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => parseInt(shape.colour.slice(at, at + 2), 16));
    const sum = covered + opacity * (1 - covered);
    const mix = (over: number, under: number) => (over * covered + under * opacity * (1 - covered)) / sum;
    [red, green, blue, opacity] = [mix(r, red), mix(g, green), mix(b, blue), sum];
  }
  return [red, green, blue, opacity * 255].map(Math.round);
}

/** How far a point is from the edge of a shape; negative inside. */
function distance(x: number, y: number, { x: left, y: top, width, height, radius }: Shape): number {
  const dx = Math.abs(x - left - width / 2) - width / 2 + radius;
  const dy = Math.abs(y - top - height / 2) - height / 2 + radius;
  return Math.hypot(Math.max(dx, 0), Math.max(dy, 0)) + Math.min(Math.max(dx, dy), 0) - radius;
}

function chunk(type: string, data: Buffer = Buffer.alloc(0)): Buffer {
  const body = Buffer.concat([Buffer.from(type, "ascii"), data]);
  const made = Buffer.alloc(body.length + 8);
  made.writeUInt32BE(data.length, 0);
  made.set(body, 4);
  made.writeUInt32BE(crc32(body), body.length + 4);
  return made;
}
