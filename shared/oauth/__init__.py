"""OAuth 2.1, as the resource server: access tokens of one configured issuer open the services beside API keys.

`access_tokens` checks a token, with the issuer's public keys from `signing_keys`; `claims` says who that makes its bearer here;
`discovery` tells clients without a token where to get one (RFC 9728). Nothing here issues, keeps or passes judgement on
passwords; that is the issuer's part.
"""
