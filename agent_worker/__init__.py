"""The process that thinks: it dials an orchestrator, works on runs, owns no store and listens on no port."""
