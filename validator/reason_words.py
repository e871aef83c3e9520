"""What each reason is called to people, in one line that says what to do next."""

from types import MappingProxyType

from validator.model import Reason

REASON_WORDS = MappingProxyType(
    {
        Reason.VALID: "valid",
        Reason.RECOVERED: "valid: the tap before was torn away",
        Reason.FIRST_RIDE: "valid: a first ride at this gate, on credit",
        Reason.POSITION_UNKNOWN: "valid: the vehicle cannot tell where it is",
        Reason.PRESENT_AGAIN: "hold the card still and present it again",
        Reason.UNKNOWN_MEDIUM: "not a card of this network",
        Reason.MALFORMED_ANSWER: "the card does not speak as it should: present it again, or have it replaced",
        Reason.ONE_CARD_AT_A_TIME: "one card at a time, please",
        Reason.UNTRUSTED_ISSUER: "the card's issuer is not accepted here",
        Reason.CERTIFICATE_EXPIRED: "the card has expired: have it renewed",
        Reason.CERTIFICATE_NOT_YET_VALID: "the card is not valid yet",
        Reason.WRONG_KEY_USAGE: "the card's certificate is for another purpose",
        Reason.WRONG_SIGNATURE: "the chip could not prove that it is genuine",
        Reason.UNSUPPORTED_KEY: "the card's key is of a kind that is not accepted",
        Reason.ASSURANCE_TOO_LOW: "this place, or this ticket, asks for more proof than the card gave",
        Reason.NOT_ENROLLED: "the card is not enrolled: enrol it at a desk",
        Reason.KEY_NOT_HERE: "this gate lacks the key for the card: tell the operator",
        Reason.DATA_TAMPERED: "what the card holds is not what its issuer signed",
        Reason.REVOKED: "the card is blocked: ask at a desk",
        Reason.TRUST_LIST_STALE: "the gate's list of issuers is out of date: tell the operator",
        Reason.DENY_LIST_STALE: "the gate's list of blocked cards is out of date: tell the operator",
        Reason.TICKET_LIST_STALE: "the gate's list of tickets is out of date: tell the operator",
        Reason.NO_TICKET: "no ticket: buy one",
        Reason.TICKET_NOT_YET_VALID: "the ticket is not valid yet",
        Reason.TICKET_EXPIRED: "the ticket has expired: buy another",
        Reason.TICKET_NOT_YET_ACTIVE: "the ticket was bought a moment ago and starts soon",
        Reason.RIDES_USED_UP: "no rides are left: buy more",
        Reason.BALANCE_TOO_LOW: "the balance is too low: top it up",
        Reason.NOT_VALID_HERE: "the ticket is not valid here",
        Reason.PASS_BACK: "the card was used here a moment ago",
        Reason.RESIDENTS_ONLY: "the ticket is for residents, and the card is an e-resident's",
        Reason.PROOF_ENDED: "the proof of the concession has ended: renew it at a desk",
        Reason.NOT_VALID_NOW: "the ticket is not valid at this hour",
        Reason.TOO_MANY_RIDES: "too many rides within a short time: wait a little",
        Reason.FIRST_RIDE_LIMIT: "too little is left for a first ride at this gate: top it up",
        Reason.CAN_NEEDED: "the card says nothing without the number on its front: link this card at a desk",
        Reason.WRONG_CAN: "that is not the number on the card's front",
        Reason.PIN_NEEDED: "this takes the holder's PIN",
        Reason.WRONG_PIN: "that is not the card's PIN",
        Reason.PIN_BLOCKED: "the PIN is blocked: its holder unblocks it with the PUK, not here",
        Reason.PIN_NOT_SET: "the PIN was never set: its holder sets one first",
        Reason.PIN_AT_RISK: "one try is left for the PIN, and it is not spent here",
        Reason.LINK_AT_DESK: "an identity card alone opens no gate: link this card at a desk",
    }
)
