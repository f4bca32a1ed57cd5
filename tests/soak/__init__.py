"""Clients that go on while every process is killed, PostgreSQL is cut off and Redis forgets."""
