"""Top levels of mail addresses that are known even where something is glued to them."""

from __future__ import annotations

import re

_COUNTRIES = """
ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca
cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo
fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je
jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo
mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt
pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk
tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
_OTHERS = """
com org net edu gov mil int info biz name pro mobi aero coop museum jobs travel asia cat tel xxx post
app dev xyz online shop store site tech cloud email live life world today agency digital group company
solutions services systems software studio design media news blog club space website icu top vip win work
works global international network center academy education consulting capital bank finance law legal
health care clinic hospital berlin hamburg koeln bayern wien london paris nyc tokyo amsterdam swiss
example test invalid local internal intranet corp lan home
"""
TOPS = frozenset(top.encode() for top in (_COUNTRIES + _OTHERS).split())
_LEADING = re.compile(rb"([A-Za-z]{2,13})[-0-9]")


def leading_top(label: bytes) -> bytes:
    """The top level with which ``label``, folded, begins, and behind which something else is glued to it;
    empty if there is none."""
    found = _LEADING.match(label)
    return found[1] if found is not None and found[1].lower() in TOPS else b""
