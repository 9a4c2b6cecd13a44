"""What people do by hand, as records on llm.log: audits, decisions about alerts, releases."""
