"""What a number is called by the words right before it: a phone, or an order, an article, an account.

All functions take the text in front of the number in lower case.
"""

from __future__ import annotations

import re

_STEMS = (
    r"(?:(?:tele|cell|smart)?phones?|phone(?:no|num|number|nr)|ph|tels?|mobs?|mobiles?|mobile(?:no|num|number)|"
    r"cell|cells|cellular|call(?:s|ed|ing|back|er)?|(?:tele)?fax|sms|text(?:s|ed|ing)?|whatsapp|signal|"
    r"dial(?:l?ed)?|ring|rang|reach|contacts?|contact(?:no|num|number)|hotline|helpline|landline|voicemail|pager|"
    r"beeper|freephone|toll[ -]?free|customer (?:care|service)|helpdesk|msisdn|telefon\w*|tfno|tlfn?o?|"
    r"handy\w*|mobil\w*|anruf\w*|ruf|rufen|rufnummer|durchwahl|festnetz\w*|fon|t[ée]l[ée]phon\w*|t[ée]l|portable|"
    r"appel\w*|joindre|joignable|fixe|tel[ée]fon\w*|m[óo]vil\w*|celular\w*|ll[áa]m\w*|contacto|cellulare)"
)
_NUMBER = (
    r"(?:n[uú]m[eé]ro|(?:my|your|his|her|our|their|new|best|the|this|that|\w+'s) (?:[a-z]+ )?number|"
    r"nummer (?:ist|lautet))"
)
_NEAR = re.compile(
    r"ph|tel|mob|cell|call|fax|sms|text|whatsapp|signal|dial|ring|rang|reach|contact|line|mail|page|beep|msisdn|"
    r"tfno|tlf|handy|ruf|durchwahl|festnetz|fon|tél|portable|appel|free|care|service|desk|join|num|fixe|m[oó]vil|celular|ll[aá]m|nú"
)
_NAME = re.compile(rf"(?<![^\W\d_])(?:{_STEMS}|{_NUMBER})(?![^\W\d_])")
_FILLER = (
    r"(?:[\s:.,;#=\"'()_\[\]{}|+-]|(?<![^\W_])(?:is|are|was|me|us|him|her|them|you|up|on|at|to|or|number|num|no|nr|"
    r"nummer|lautet|ist|est|es|au|le|al|unter|under|via|my|the|new|old|your|work|home|office|desk|dial|call)(?![^\W_]))"
)
_CLOSE = re.compile(rf"(?<![^\W\d_])(?:{_STEMS}|{_NUMBER})(?![^\W\d_]){_FILLER}{{0,12}}\Z")

_LABELS = (
    r"orders?|invoice|tracking|ticket|case|ref|reference|transaction|txn|sku|isbn|issn|imei|serial|"
    r"article|items?|part|batch|build|commit|version|ver|revision|(?<!, )ids?|uuid|hash|timestamp|ts|"
    r"epoch|bestellung|rechnung|commande|facture"
)
_SERVED = (
    r"|acc(?:oun)?t|membership|policy|nhs|passcode|booking|reservation|parcel|shipment|lot|meter|claim|"
    r"contract|licen[sc]e|drawing|gtin|ean|upc|asin|nonce|seq|session|job|device|sensor|siren|siret|ssn|"
    r"zip|sum|total|amount|length|size|count|p\.?o\.?|delivery note|consignment|waybill|awb|receipt|"
    r"quot(?:e|ation)|passport|mrn|medicare|model|(?:library|loyalty|gift|id) card|barcode|docket|"
    r"container|challan|pnr|chassis|certificate|permit|room|slot|bus|flight|train|seat|gate|voucher|"
    r"coupon|asset|inventory|patent|complaint|incident|issue|bug|pid|index|key|fingerprint|checksum|"
    r"temps|scores?|table|figure|konto|steuer|auftrag|vertrag|sendung|paket|angebot|lieferschein|"
    r"aktenzeichen|vorgang|antrag|beleg|gutschein|quittung|charge|artikel|postfach|blz|mandatsreferenz|"
    r"mandat|lotto|zählerstand|dossier|colis|contrat|r[ée]f[ée]rence|devis|bon de commande|suivi|cote|"
    r"abonnement|pedido|expediente|factura|albar[aá]n|contrato|c[óo]digo|referencia|p[óo]liza|cuenta|"
    r"matr[ií]cula|lote|folio"
)
_THINGS = (
    r"|ledger|requisition|remittance|payment|transfer|approval|confirmation|rma|warranty|badge|locker|"
    r"plate|engine|vehicle|pallet|carton|stock|sample|specimen|prescription|rx|donor|cheque|isin|cusip|"
    r"routing|sort code|terminal|token|pin|otp|imsi|iccid|crc|platform|berth|postcode|lat|lon|lng|grid|"
    r"vol|chapter|doi|pmid|trademark|warrant|citation|trade|project|asset tag|buchung|zahlung|"
    r"überweisung|gutschrift|mahnung|lastschrift|police|schaden(?:sfall|fall)?|zähler|charge|palette|"
    r"zimmer|flurstück|akte|ausweis|fahrgestell|matrikel|abo|störung|projekt|kostenstelle|sachkonto|bon|"
    r"bordereau|reçu|quittance|virement|prélèvement|chèque|sinistre|compteur|lot|série|modèle|affaire|"
    r"brevet|passeport|permis|immatriculation|ch[âa]ssis|matricule|projet|recibo|pago|transferencia|"
    r"siniestro|contador|serie|modelo|pasaporte|bastidor|vuelo|socio|proyecto|gu[íi]a|env[íi]o|paquete"
)
_WEAK = (
    r"(?:customer|client|member|patient|employee|student|consumer|user|kunden?|cliente|bill|card|form|file|record|"
    r"doc(?:ument)?|request|reg(?:istration)?|cat(?:alog(?:ue)?)?|page|pr|cr|unit|box|insurance|loyalty|product|roll|"
    r"application|service|item)"
)
"""What may also stand before a phone number; with "no." or the like behind, it is another one."""
_MARK = r"(?:id|no|nr|num|number|nummer|numéro|code|n[°º]|n\.º|№)"
_MARKED = rf"|{_WEAK}[ \t._-]{{0,2}}(?={_MARK}|#)|(?:n[º°]|n\.º|num[ée]ro) (?:de )?{_WEAK}"
_NUMBER_OF = (
    r"|(?:n[º°]|n\.º|n[uú]m[ée]ro) d(?:e |[’'])"
    r"(?!t[ée]l|tlf|tfno|portable|mobile|m[óo]vil|fax|contact|celular)[\w']+"
)
_COMPOUND = (
    r"|(?!telefon|tel|ruf|handy|mobil|fax|festnetz|service|notruf|notfall|kontakt|whatsapp|durchwahl|büro|privat|"
    r"dienst|phone)[a-zäöüß]{3,24}-?(?:nummern?|nr|referenz|zeichen|kennung)"
)
_NUMBERED = (
    rf"[ \t._-]{{0,2}}{_MARK}?(?:[ -]1[03])?\.?,?(?: (?:is|was|ist|lautet|est|es))?"
    r"[\"']?[ \t]{0,2}(?:[:=]\s{0,2}|[#|][ \t]{0,2})?[\"'#]?\Z"
)
_ANY_NUMBER = re.compile(
    r"(?<![^\W_])(?!(?:the|this|that|my|your|his|her|our|their|its|new|old|best|main|direct|private|personal|home|"
    r"office|work|business|daytime|evening|emergency|support|service|care|contact|callback|call|back|desk|reception|"
    r"primary|secondary|alternat\w+|backup|other|second|first|same|right|wrong|correct|local|usa?|uk|indian|german|"
    r"french|spanish|and|or|meine?|deine?|seine?|ihre?|unsere?|neue|alte|die|mon|votre|son|le|mi|su|el|la|s|"
    r"what'?s ?app|(?:tele)?phone|ph|tel|mob|mobile|cell|fax|sms|landline|hotline|telefon|handy|mobil|ruf|"
    r"festnetz|portable|m[óo]vil|tel[ée]fono|registered|customer care|toll[- ]?free)(?![^\W_]))"
    r"[^\W\d_][\w-]{1,30}(?:[ _](?:no|nr|num|number|nummer|id|code)\.?|(?:[ _]n[°º]| n\.º| №) ?| ?#)"
    r"[\"']?[ \t]{0,2}(?:[:=]\s{0,2})?[\"'#]?\Z"
)
"""A word that says what is numbered, unless it goes with phones or persons."""
_OTHER_NUMBER = re.compile(rf"\b(?:{_LABELS}){_NUMBERED}")
_NO_PHONE = re.compile(rf"\b(?:{_LABELS}{_SERVED}{_THINGS}{_MARKED}{_NUMBER_OF}{_COMPOUND}){_NUMBERED}")
_OF = re.compile(
    rf"(?<![^\W\d_]){_STEMS}(?:[\s.]{{1,2}}(?:number|no|nr|of|the|our|this|du|de|la|le|l'|des|der|del|von|vom|el))"
    r"{1,4}[\s.]{1,2}\Z"
)


def may_be_named(around: str) -> bool:
    """Cheap: False only if nothing in ``around`` calls a number a phone's, however it is cut."""
    return _NEAR.search(around) is not None


def named_phone(before: str, *, close: bool = False) -> bool:
    """Whether a phone is spoken of; ``close``: right before, with filling words between at most."""
    return (_CLOSE if close else _NAME).search(before) is not None


def labelled_otherwise(before: str, *, phone: bool = False) -> bool:
    """Whether the words right before a number say that it is an order number or the like; of what may be a
    phone number, also that it is a customer's or an account's, unless it is the phone of that customer."""
    label = (_NO_PHONE if phone else _OTHER_NUMBER).search(before)
    if label is None and phone:
        label = _ANY_NUMBER.search(before)
    return label is not None and not (phone and _OF.search(before, 0, label.start()))
