import type { Area } from "../routes";
import supplier from "../supplier/area";

const area: Area = {
  menu: [{ href: "/payments", label: ["Encaissement", "Payments"] }, ...supplier.menu],
  routes: [{ path: "/payments", screen: () => import("./Payments.svelte") }, ...supplier.routes],
};

export default area;
