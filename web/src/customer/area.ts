import type { Area } from "../routes";

const area: Area = { menu: [{ href: "/account", label: ["Mon compte", "My account"] }], routes: [] };

export default area;
