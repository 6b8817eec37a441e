"""pki.py - certificates for the flow tests, also such as no authority would sign

DER is written by hand: a NUL in a name, an issuer that may not issue, and a signature over SHA-1
are as easy as a good one. Keys and signatures come from python3-cryptography.

  Authority   a root and an intermediate; leaf(names) signs
  Certificate what was made: pem, chain, key; write() leaves files for a server
"""
import datetime
import functools
import ssl

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

SERVER, CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
HASHES = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha1": hashes.SHA1}
SIGNATURES = {("rsa", "sha256"): "1.2.840.113549.1.1.11", ("rsa", "sha1"): "1.2.840.113549.1.1.5",
              ("ec", "sha256"): "1.2.840.10045.4.3.2", ("ec", "sha384"): "1.2.840.10045.4.3.3",
              ("ec", "sha1"): "1.2.840.10045.4.1"}
KEYS = {"ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ec384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "rsa1024": lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024)}


def tlv(tag, *parts):
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def sequence(*parts):
    return tlv(0x30, *parts)


def integer(number):
    return tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def oid(text):
    first, second, *rest = map(int, text.split("."))
    body = bytes([first * 40 + second])
    for number in rest:
        digits = [number & 127]
        while number := number >> 7:
            digits.insert(0, 128 | number & 127)
        body += bytes(digits)
    return tlv(6, body)


def name_of(common_name):
    return sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(12, common_name.encode()))))


def time_of(days):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return tlv(0x18, when.strftime("%Y%m%d%H%M%SZ").encode()) if when.year >= 2050 else \
        tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())


def extension(number, value, critical=False):
    return sequence(oid(number), tlv(1, b"\xff") if critical else b"", tlv(4, value))


def pem(what, der):
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", what)


class Certificate:
    def __init__(self, der, key, issuers=()):
        self.der = der
        self.key = key
        self.issuers = list(issuers)    # that a server sends along

    @property
    def pem(self):
        return pem("CERTIFICATE", self.der)

    @property
    def chain(self):
        return self.pem + "".join(c.pem for c in self.issuers)

    @property
    def key_pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()).decode()

    def write(self, directory, name):
        """Paths of chain and key, for a configuration."""
        chain, key = directory / f"{name}.pem", directory / f"{name}.key"
        chain.write_text(self.chain)
        key.touch(0o600)
        key.write_text(self.key_pem)
        return chain, key


@functools.lru_cache(maxsize=None)
def shared_key(kind):
    """One key of a kind is enough for most: making RSA keys takes its time."""
    return KEYS[kind]()


_serial = iter(range(0x1000, 1 << 62))


def make(common_name, key, issuer=None, issuer_name=None, names=(), ca=False, days=(-1, 90), usage=(SERVER,),
         digest="sha256", more=b"", key_usage=None):
    """A Certificate signed by issuer (a Certificate; None: by itself). names: text, or octets as
    they shall stand in the dNSName. more: extensions in DER. key_usage: the octets of its bits."""
    signer = issuer.key if issuer else key
    kind = "rsa" if isinstance(signer, rsa.RSAPrivateKey) else "ec"
    algorithm = sequence(oid(SIGNATURES[kind, digest]), tlv(5) if kind == "rsa" else b"")
    extensions = extension("2.5.29.19", sequence(tlv(1, b"\xff") if ca else b""), True)
    bits = b"\x01\x06" if ca else b"\x05\xa0" if isinstance(key, rsa.RSAPrivateKey) else b"\x07\x80"
    extensions += extension("2.5.29.15", tlv(3, key_usage or bits), True)
    if usage and not ca:
        extensions += extension("2.5.29.37", sequence(*map(oid, usage)))
    if names:
        extensions += extension("2.5.29.17", sequence(*(
            tlv(0x82, n if isinstance(n, bytes) else n.encode()) for n in names)))
    public = key.public_key().public_bytes(serialization.Encoding.DER,
                                           serialization.PublicFormat.SubjectPublicKeyInfo)
    body = sequence(tlv(0xa0, integer(2)), integer(next(_serial)), algorithm,
                    name_of(issuer_name or common_name), sequence(time_of(days[0]), time_of(days[1])),
                    name_of(common_name), public, tlv(0xa3, sequence(extensions, more)))
    hashed = HASHES[digest]()
    signature = signer.sign(body, padding.PKCS1v15(), hashed) if kind == "rsa" else \
        signer.sign(body, ec.ECDSA(hashed))
    return Certificate(sequence(body, algorithm, tlv(3, b"\0", signature)), key)


class Authority:
    def __init__(self, name="Flow Test", kind="ec"):
        self.name = name
        self.root = make(f"{name} Root", KEYS[kind](), ca=True, days=(-10, 3650))
        self.middle = self.issuer("Intermediate", self.root, f"{name} Root")

    def issuer(self, what, under, under_name):
        made = make(f"{self.name} {what}", KEYS["ec"](), under, under_name, ca=True, days=(-5, 365))
        made.issuers = ([under] if under is not self.root else []) + under.issuers
        return made

    def leaf(self, *names, kind="ec", key=None, common_name=None, **more):
        made = make(common_name or "leaf", key or shared_key(kind), self.middle, f"{self.name} Intermediate",
                    names=names, **more)
        made.issuers = [self.middle]
        return made

    def long_chain(self, *names, count=12):
        """A valid one, with more issuers than anybody needs."""
        under, under_name = self.root, f"{self.name} Root"
        for number in range(count):
            under, under_name = self.issuer(f"Level {number}", under, under_name), f"{self.name} Level {number}"
        made = make("leaf", shared_key("ec"), under, under_name, names=names)
        made.issuers = [under] + under.issuers
        return made
