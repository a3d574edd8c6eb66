// The OpenAPI document, shown by Swagger UI (/docs) or Redoc (/redoc); both are vendored.
const url = "/openapi.json";

if (window.SwaggerUIBundle) {
  window.SwaggerUIBundle({ url, dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: false, validatorUrl: null });
} else {
  // its search needs a worker made from text, which the page's security policy does not allow
  window.Redoc.init(url, { disableSearch: true, hideDownloadButtons: false }, document.getElementById("redoc"));
}
