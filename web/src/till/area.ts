import type { Area } from "../routes";
import supplier from "../supplier/area";

/** What staff of a point of sale opens: the payments, at once (P3). */
const area: Area = {
  menu: [
    { href: "/payments", label: ["Encaissement", "Payments"] },
    ...supplier.menu,
    { href: "/home", label: ["Accueil", "Start"] },
  ],
  routes: [
    { path: "/payments", screen: () => import("./Payments.svelte") },
    { path: "/payments/new", screen: () => import("./NewPayment.svelte") },
    { path: "/payments/:id", screen: () => import("./Payment.svelte") },
    { path: "/home", screen: () => import("./Home.svelte") },
    { path: "/requests/new", screen: () => import("../support/NewRequest.svelte") },
    { path: "/documents", screen: () => import("../published/Documents.svelte") },
    { path: "/faq", screen: () => import("../published/Documents.svelte") },
    ...supplier.routes,
  ],
};

export default area;
