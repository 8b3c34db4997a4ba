// The page's icons: 24x24 strokes in the text's colour. They are decoration: every button has its own label.

const paths = {
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  settings: "M4 7h9M19 7h1M4 17h1M11 17h9M16 4.5v5M8 14.5v5",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5Z",
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "m5 12.5 4.5 4.5L19 7.5",
  edit: "m4 20 1-4L16.5 4.5l3 3L8 19zM14 7l3 3",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  again: "M20 11a8 8 0 1 0-2.3 6M20 5v6h-6",
  download: "M12 4v11M7 10.5l5 5 5-5M4 20h16",
  upload: "M12 16V5M7 9.5l5-5 5 5M4 20h16",
  chip: "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "m9 6 6 6-6 6",
  thought: "M9 18h6M10 21h4M8.5 14.5A6 6 0 1 1 15.5 14.500c-.6.6-.9 1-1 1.5h-5c-.1-.5-.4-.9-1-1.500Z",
  tool: "M14.5 6.500a4 4 0 0 1 5-1l-2.8 2.8 1 1L20.5 6.500a4 4 0 0 1-5.4 5.200L8 19a2 2 0 0 1-3-3l7.3-7.100a4 4 0 0 1 2.2-2.400Z",
  warning: "M12 4 2.5 20h19zM12 10v4M12 17v.1",
  folder: "M3 6h6l2 2h10v11H3z",
};

export type IconName = keyof typeof paths;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}
