"use strict";
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null, // the default sends the description to a server elsewhere
  persistAuthorization: false,
});
