-- The database and a role for each job, once, as superuser: psql --set=ON_ERROR_STOP=1 --file=deploy/roles.sql
\getenv owner_password OWNER_PASSWORD
\getenv app_password APP_PASSWORD
\getenv relay_password RELAY_PASSWORD
\getenv reader_password READER_PASSWORD

-- Migrates.
CREATE ROLE escarcelle_owner LOGIN PASSWORD :'owner_password';
-- API and workers: one issuer at a time, and it owns nothing.
CREATE ROLE escarcelle_app LOGIN PASSWORD :'app_password';
-- Sees every issuer, in the queues only.
CREATE ROLE escarcelle_relay LOGIN PASSWORD :'relay_password';
-- The audit: sees everything but secrets, changes nothing.
CREATE ROLE escarcelle_reader LOGIN PASSWORD :'reader_password';

CREATE DATABASE escarcelle OWNER escarcelle_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
REVOKE CONNECT, TEMPORARY ON DATABASE escarcelle FROM PUBLIC;
GRANT CONNECT ON DATABASE escarcelle TO escarcelle_app, escarcelle_relay, escarcelle_reader;
