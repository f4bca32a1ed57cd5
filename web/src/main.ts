import { mount } from "svelte";
import App from "./App.svelte";
import "./app.css";
import { keepFocus } from "./lib/focus";
import { listen } from "./lib/router.svelte";
import { session, watch } from "./lib/session.svelte";

const target = document.getElementById("app");
if (target === null) throw new Error("index.html has a place for the application");
listen();
watch();
keepFocus();
void session.load();
mount(App, { target });
if (import.meta.env.PROD && "serviceWorker" in navigator) void navigator.serviceWorker.register("/service-worker.js");
