"""How well personal data is found: labelled sentences, half of them set aside.

``sentences.jsonl`` has one object a line: ``text``, ``spans`` (``start``, ``end``, ``entity``), ``split``.
``split`` follows from the SHA-256 of the text alone; ``held_out`` is for measuring only, never for tuning.
All persons, numbers and keys are invented: documentation domains and addresses, drama numbers, test cards,
published example IBANs, random keys (their first character is escaped in the file, so that scanners for
secrets stay quiet).

What the labels mean:
- A span is found when a match of its entity covers all of it and at most two characters more that are
  neither letters nor digits. A match of an entity that has no such span is a false one.
- ``user@host.tld`` is an e-mail address wherever it stands, with a public, reserved or inner suffix, but
  not in ``git@host:path`` or ``scheme://user@host``, nor without a dot: those name a login.
- Every valid IP address counts, private ones too; four numbers after "version" or in a name do not.
  It counts without mask, zone and port, a phone number without its extension.
- Cards, IBANs and NHS numbers must pass their checksum; a number that fails it is no personal data.
- A phone number written as plain digits counts when the sentence says that it is one.
- A key counts by its issuer's prefix, or when it is named as one and looks random; a private key from BEGIN
  to END. Passwords are not labelled.
- A number in the form of an SSN is one; three digits and four are a phone number when the sentence says so.

The last 465 lines of the file, about a fifth, were written by somebody who did not know the rules; the
others were written together with them.
"""
