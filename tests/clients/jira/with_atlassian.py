"""atlassian-python-api, as its users call it."""

import logging
import sys

from atlassian import Jira

import calls

logging.disable(logging.CRITICAL)
url, token, site, phase = sys.argv[1:]
jira = Jira(url=url, token=token)

READS = {
    'get_issue': lambda: jira.get_issue('COMP-101'),
    'issue': lambda: jira.issue('COMP-101', fields='summary,status'),
    'issue_field_value': lambda: jira.issue_field_value('COMP-101', 'summary'),
    'jql': lambda: jira.jql('project = COMP ORDER BY key'),
    'issue_get_comments': lambda: jira.issue_get_comments('COMP-101'),
    'issue_get_watchers': lambda: jira.issue_get_watchers('COMP-101'),
    'issue_get_worklog': lambda: jira.issue_get_worklog('COMP-101'),
    'get_issue_transitions': lambda: jira.get_issue_transitions('COMP-101'),
    'get_issue_status': lambda: jira.get_issue_status('COMP-101'),
    'get_attachments_ids_from_issue': lambda: jira.get_attachments_ids_from_issue('COMP-101'),
    'get_attachment': lambda: jira.get_attachment('20003'),
    'projects': jira.projects,
    'project': lambda: jira.project('COMP'),
    'get_project_components': lambda: jira.get_project_components('COMP'),
    'get_project_versions': lambda: jira.get_project_versions('COMP'),
    'get_all_fields': jira.get_all_fields,
    'get_all_priorities': jira.get_all_priorities,
    'get_all_statuses': jira.get_all_statuses,
    'get_all_resolutions': jira.get_all_resolutions,
    'get_issue_link_types': jira.get_issue_link_types,
    'myself': jira.myself,
    'user': lambda: jira.user('ann'),
    'user_find_by_user_string': lambda: jira.user_find_by_user_string(username='a'),
    'get_groups': jira.get_groups,
    'get_all_applicationroles': jira.get_all_application_roles,
    'get_all_agile_boards': jira.get_all_agile_boards,
    'get_all_sprints_from_board': lambda: jira.get_all_sprints_from_board(1),
    'get_issues_for_board': lambda: jira.get_issues_for_board(1, ''),
}
FIELDS = {'project': {'key': 'COMP'}, 'issuetype': {'name': 'Bug'}, 'summary': 'mine'}
WRITES = {
    'create_issue': lambda: jira.create_issue(fields=FIELDS),
    'update_issue': lambda: jira.update_issue_field('COMP-117', {'summary': 'mine'}),
    'assign_issue': lambda: jira.assign_issue('COMP-117', 'ben'),
    'add_comment': lambda: jira.issue_add_comment('COMP-101', 'was here'),
    'transition_issue': lambda: jira.set_issue_status_by_transition_id('COMP-117', '11'),
    'add_worklog': lambda: jira.issue_add_json_worklog('COMP-101', {'timeSpentSeconds': 60}),
    'create_issue_link': lambda: jira.create_issue_link(
        {'type': {'name': 'Blocks'}, 'inwardIssue': {'key': 'COMP-98'}, 'outwardIssue': {'key': 'FARM-7'}}
    ),
    'add_watcher': lambda: jira.issue_add_watcher('COMP-117', 'ben'),
    'remove_watcher': lambda: jira.issue_delete_watcher('COMP-117', 'ben'),
    'delete_attachment': lambda: jira.remove_attachment('20004'),
    'delete_issue': lambda: jira.delete_issue('COMP-98'),
}
calls.report(READS, WRITES, site, phase)
