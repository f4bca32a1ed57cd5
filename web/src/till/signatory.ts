import type { Area } from "../routes";
import supplier from "../supplier/area";
import staff from "./area";

/** What a signatory opens: what staff does, and the merchant's own affairs (P3, P5). */
const area: Area = {
  menu: [
    { href: "/home", label: ["Accueil", "Start"] },
    { href: "/payments", label: ["Encaissement", "Payments"] },
    { href: "/reimbursements", label: ["Mes remboursements", "My reimbursements"] },
    ...supplier.menu,
    { href: "/merchant", label: ["Mes données", "My details"] },
    { href: "/rights", label: ["Gestion des droits", "Rights"] },
  ],
  routes: [
    ...staff.routes,
    { path: "/reimbursements", screen: () => import("./Reimbursements.svelte") },
    { path: "/reimbursements/:id", screen: () => import("./Reimbursement.svelte") },
    { path: "/merchant", screen: () => import("./Merchant.svelte") },
    { path: "/rights", screen: () => import("../users/Users.svelte") },
    { path: "/rights/new", screen: () => import("../users/NewUser.svelte") },
    { path: "/rights/:id", screen: () => import("../users/User.svelte") },
  ],
};

export default area;
