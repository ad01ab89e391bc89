"use strict";
Redoc.init("openapi.json", { disableSearch: false }, document.getElementById("page"));
