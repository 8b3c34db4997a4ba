// Numbers as people read them.

const units = ["B", "kB", "MB", "GB", "TB"];

// bytes: three significant digits, decimal units as browsers and file managers use them.
export function bytes(n: number): string {
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit++;
  }
  const digits = unit === 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
  return `${n.toFixed(digits)} ${units[unit]}`;
}

export function seconds(s: number): string {
  if (s < 0.95) return `${Math.max(1, Math.round(s * 1000))} ms`;
  if (s < 59.5) return `${s < 9.95 ? s.toFixed(1) : s.toFixed(0)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function count(n: number): string {
  return n.toLocaleString("en");
}

// parameters: 596049920 as "596M", 4022468096 as "4.0B".
export function parameters(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(1)}B`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(n >= 1e7 ? 0 : 1)}M`;
  return `${Math.round(n / 1e3)}k`;
}

export function rate(tokens: number, s: number): string {
  if (tokens <= 0 || s <= 0) return "–";
  const r = tokens / s;
  return r >= 99.5 ? r.toFixed(0) : r.toFixed(1);
}
