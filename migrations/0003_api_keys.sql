-- Who may ask for what. Only expands: the binaries of the version before serve beside it.

CREATE TABLE api_keys (
    -- The public part of the key.
    id              text        NOT NULL PRIMARY KEY CHECK (id ~ '^[a-z0-9]{12}$'),
    -- Of the secret part, which is random enough that no slow hash is needed.
    secret_sha256   bytea       NOT NULL CHECK (octet_length(secret_sha256) = 32),
    name            text        NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    scopes          text[]      NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 16),
    -- The one customer for whom it is; NULL for all.
    customer_ref    text        CHECK (char_length(customer_ref) BETWEEN 1 AND 200),
    -- NULL: as the API is set.
    rate_per_second bigint      CHECK (rate_per_second BETWEEN 1 AND 1000000),
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,
    revoked_at      timestamptz
);
-- The list, and the few that are good among many that were.
CREATE INDEX api_keys_by_age ON api_keys (created_at, id);
CREATE INDEX api_keys_good ON api_keys (created_at, id) WHERE revoked_at IS NULL;
