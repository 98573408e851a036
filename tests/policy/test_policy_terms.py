from agent.policy.terms import Configured, Terms, deviations

KNOWN = ("lights_siren", "impact")


def said(configured: Configured, terms: Terms) -> list[str]:
    return list(deviations(configured, terms, KNOWN))


def test_configuration_that_does_what_is_demanded_or_more_deviates_in_nothing() -> None:
    assert not said(Configured(30.0), Terms())
    assert not said(Configured(30.0, triggers=("impact",)), Terms(pre_event_s=30))
    assert not said(Configured(60.0, simulated_pins=True), Terms(pre_event_s=30, simulated_pins=True))
    assert not said(Configured(5.0, classification="restricted"), Terms(classification="restricted"))


def test_each_way_to_fall_short_is_named() -> None:
    weak = Configured(0.5, simulated_pins=True, classification="default", triggers=("siren2", "impact"))
    told = said(weak, Terms(pre_event_s=30, simulated_pins=False, classification="restricted"))
    assert [line.split()[0] for line in told] == ["pre_event_s", "the", "classification", "the"]
    assert "0.5" in told[0]
    assert "siren2" in told[3]


def test_simulated_pins_are_named_unless_they_are_allowed_in_so_many_words() -> None:
    assert said(Configured(30.0, simulated_pins=True), Terms())
    assert said(Configured(30.0, simulated_pins=True), Terms(simulated_pins=False))
