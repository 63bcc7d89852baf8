"""Pictures and pages for people: contact sheets, HTML pages, title cards, fonts."""
