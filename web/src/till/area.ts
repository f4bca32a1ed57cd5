import type { Area } from "../routes";
import supplier from "../supplier/area";

const area: Area = {
  menu: [{ href: "/payments", label: ["Encaissement", "Payments"] }, ...supplier.menu],
  routes: [
    { path: "/payments", screen: () => import("./Payments.svelte") },
    { path: "/payments/new", screen: () => import("./NewPayment.svelte") },
    { path: "/payments/:id", screen: () => import("./Payment.svelte") },
    ...supplier.routes,
  ],
};

export default area;
