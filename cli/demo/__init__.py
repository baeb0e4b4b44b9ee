"""`mudeung demo`: the whole round, from a login to a charge, done from outside as a browser and a client would."""
