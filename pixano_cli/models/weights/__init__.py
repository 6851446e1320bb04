"""The embedded weights, as package data. NOTICE gives their licences and origins."""
