"""Checks that every release must pass, by subject, and the tests that are them.

`test_table.py` holds every row to a test that exists; what only a person or another machine can check is said.

 1 missing, wrong or revoked key            test_keys.py::test_a_missing_a_wrong_and_a_revoked_key_get_the_same_401_everywhere
 2 beyond loopback without keys             test_errors.py::test_loopback_only
 2 the same, past the start                 test_keys.py::test_beyond_loopback_nobody_gets_in_without_a_key
 3 strange Host headers, on every operation test_errors.py::test_every_operation_refuses_a_strange_host_and_a_foreign_page
 3 strange Host headers, on raw sockets     catalogue/test_edges.py::test_raw_requests_with_strange_hosts_get_no_data
 4 one way to bring a key                   test_keys.py::test_a_key_counts_only_where_it_belongs
 4 roles, on every operation                test_keys.py::test_every_live_route_lets_in_exactly_the_roles_of_its_row
 4 revocation at once                       test_keys.py::test_making_and_revoking_are_effective_at_the_next_request
 5 keys random, hashed, compared safely     test_keys.py::test_keys_are_random_hashed_and_compared_in_constant_time
 6 compose file                             ../docker/test_docker.py::test_only_loopback_is_published_and_it_is_the_services_port
 6 no secret baked in                       ../docker/test_docker.py::test_nobody_is_root_at_the_end_and_no_secret_is_baked_in
 7 foreign collections are unknown ones     test_keys.py::test_a_foreign_collection_is_answered_as_an_unknown_one_is
 7 lists and answers leak nothing           test_keys.py::test_nothing_that_a_key_can_list_or_ask_tells_of_the_others
 8 hostile names                            test_documents.py::test_hostile_names_lead_nowhere
 8 hostile names, wherever a name is taken  catalogue/test_edges.py::test_hostile_names_in_every_path_and_field_lead_nowhere
10 uploads of one name at the same time     catalogue/test_edges.py::test_uploads_of_one_name_at_the_same_time_are_never_mixed
11 URLs: what is not fetched                ../ingest/test_fetch.py::test_no_way_of_writing_loopback_is_fetched
11 URLs: rebinding                          ../ingest/test_fetch.py::test_a_name_that_changes_its_address_is_not_followed_there
11 URLs: redirects                          ../ingest/test_fetch.py::test_a_redirect_to_a_private_address_is_refused
12 who may open connections                 ../test_architecture.py::test_module_keeps_the_rules
13 pages of other sites                     catalogue/test_edges.py::test_pages_of_other_sites_get_nothing_by_any_method
14 XSS in a real browser                    test_page_library.py::test_hostile_documents_names_and_answers_execute_nothing
14 XSS through the sanitiser                test_render.py::test_payloads_come_through_as_text
15 no request leaves the origin             test_page_library.py::test_the_sanitiser_is_not_the_only_wall
16 originals are saved, not opened          catalogue/test_edges.py::test_an_uploaded_page_is_saved_and_not_opened
18 nothing but Ollama is contacted          catalogue/test_edges.py::test_asking_contacts_nobody
19 secrets of the environment stay inside   catalogue/test_edges.py::test_the_environment_is_in_no_reply
20 deletion ends influence                  catalogue/test_edges.py::test_a_deleted_document_is_never_cited_again
25 Ollama's management is not there         test_ollama_api.py::test_management_is_not_there_and_nothing_behind_hears_of_it
26 an upstream that misbehaves              test_ollama_contract.py::test_a_line_that_never_ends_is_given_up_and_takes_no_memory
26 an upstream that hangs                   test_ollama_contract.py::test_a_model_that_loads_past_the_deadline_is_a_504_and_frees_slot_and_upstream
26 an upstream that fails                   test_ollama_api.py::test_its_failures_are_named
31 forms and bodies that are too much       catalogue/test_edges.py::test_forms_and_bodies_that_are_too_much_are_refused
32 numbers at their ends, on every body     catalogue/test_edges.py::test_numbers_at_their_ends_are_refused_or_served
32 whatever the OpenAPI document allows     test_openapi_fuzz.py::test_every_operation_answers_as_declared
33 logs without texts and keys              test_observing.py::test_neither_documents_nor_questions_nor_keys_are_written
33 no forged lines                          test_observing.py::test_a_record_is_one_line_whatever_is_in_it
35 live routes are the reviewed ones        test_keys.py::test_every_live_route_has_its_row_and_no_row_is_left_over
49 one slot, a queue of four, twenty asks   test_load.py::test_one_slot_and_a_queue_of_four_serve_five_of_twenty
50 a client that leaves                     test_load.py::test_a_client_that_leaves_frees_the_slot
50 the same, behind Ollama                  test_ollama_api.py::test_leaving_ends_it_upstream_too
50 the same, behind an OpenAI-style server  test_openai_upstream.py::test_a_client_that_leaves_ends_it_upstream_too
51 a stuck generator                        test_load.py::test_a_generator_that_ignores_it_loses_its_slot
52 live, not ready                          test_load.py::test_live_at_once_ready_when_loaded
52 a bad index                              test_walk.py::test_a_damaged_collection_is_said_to_be_damaged
53 an orderly end                           catalogue/test_endings.py::test_sigterm_lets_running_answers_finish_and_ends_clean
54 idle sockets                             catalogue/test_endings.py::test_idle_sockets_keep_nobody_out

Elsewhere: 17 (documents that give orders) is measured by `benchmarks/poisoned.py`; 21 (template markers in documents)
by the tests of `tests/model/test_chat.py`; 34 (audits of a locked install) needs the network and is run by hand; times
of 49 to 52 and 54, and 55, by `benchmarks/load.py`; 56 by `make nightly`.
"""
