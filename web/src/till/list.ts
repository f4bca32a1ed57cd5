/** The list as it was last looked at, with its filters: the way back to it. */
export const list = { address: "/payments" };
