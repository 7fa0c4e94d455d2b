"""Real servers and small peers for the tests. No test lives here."""
