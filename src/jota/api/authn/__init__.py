"""Identity from elsewhere: OpenID Connect issuers (`oidc.py`) and token webhooks (`webhook.py`), asked by `filters/authn.py`."""
