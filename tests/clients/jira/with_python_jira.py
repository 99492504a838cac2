"""python-jira, as its users call it."""

import sys
import warnings

from jira import JIRA

import calls

warnings.simplefilter('ignore')
url, token, site, phase = sys.argv[1:]
# A refusal is not a fault of the network: it is told at once.
jira = JIRA(server=url, token_auth=token, max_retries=0)


def raw(resources):
    return [resource.raw for resource in resources]


def files():
    return [(file.filename, file.get().hex()) for file in jira.issue('COMP-101').fields.attachment]


READS = {
    'applicationroles': lambda: jira._get_json('applicationrole'),
    'attachment': lambda: jira.attachment('20003').raw,
    'attachment_meta': jira.attachment_meta,
    'boards': lambda: raw(jira.boards()),
    'comment': lambda: jira.comment('COMP-101', '20001').raw,
    'comments': lambda: raw(jira.comments('COMP-101')),
    'component': lambda: jira.component('500').raw,
    'createmeta_issuetypes': lambda: jira.createmeta_issuetypes('COMP'),
    'dashboards': lambda: raw(jira.dashboards()),
    'editmeta': lambda: jira.editmeta('COMP-101'),
    'favourite_filters': lambda: raw(jira.favourite_filters()),
    'fields': jira.fields,
    'files': files,
    'filter': lambda: jira.filter('10000').raw,
    'groups': jira.groups,
    'issue': lambda: jira.issue('COMP-101', expand='changelog').raw,
    'issue_link_types': lambda: raw(jira.issue_link_types()),
    'issue_type': lambda: jira.issue_type('1').raw,
    'issue_types': lambda: raw(jira.issue_types()),
    'my_permissions': jira.my_permissions,
    'myself': jira.myself,
    'priorities': lambda: raw(jira.priorities()),
    'project': lambda: jira.project('COMP').raw,
    'project_components': lambda: raw(jira.project_components('COMP')),
    'project_roles': lambda: jira.project_roles('COMP'),
    'project_versions': lambda: raw(jira.project_versions('COMP')),
    'projects': lambda: raw(jira.projects()),
    'resolutions': lambda: raw(jira.resolutions()),
    'search_issues': lambda: raw(jira.search_issues('project = COMP ORDER BY key')),
    'search_issues by POST': lambda: raw(jira.search_issues('text ~ "delete"', use_post=True)),
    'search_users': lambda: raw(jira.search_users(user='a')),
    'server_info': jira.server_info,
    'service_desks': lambda: raw(jira.service_desks()),
    'sprints': lambda: raw(jira.sprints(1)),
    'statuses': lambda: raw(jira.statuses()),
    'transitions': lambda: jira.transitions('COMP-101'),
    'user': lambda: jira.user('ann').raw,
    'version': lambda: jira.version('700').raw,
    'votes': lambda: jira.votes('COMP-101').raw,
    'watchers': lambda: jira.watchers('COMP-101').raw,
    'worklogs': lambda: raw(jira.worklogs('COMP-101')),
}
FIELDS = {'project': {'key': 'COMP'}, 'issuetype': {'name': 'Bug'}, 'summary': 'mine'}
WRITES = {
    'create_issue': lambda: jira.create_issue(FIELDS).key,
    'create_issues': lambda: [made['error'] for made in jira.create_issues([FIELDS])],
    'update_issue': lambda: jira.issue('COMP-117').update(summary='mine'),
    'assign_issue': lambda: jira.assign_issue('COMP-117', 'ben'),
    'add_comment': lambda: jira.add_comment('COMP-101', 'was here').id,
    'update_comment': lambda: jira.comment('COMP-101', '20001').update(body='mine'),
    'delete_comment': lambda: jira.comment('COMP-101', '20001').delete(),
    'transition_issue': lambda: jira.transition_issue('COMP-117', '11'),
    'add_worklog': lambda: jira.add_worklog('COMP-101', timeSpentSeconds=60).id,
    'delete_worklog': lambda: jira.worklog('COMP-101', '20002').delete(),
    'create_issue_link': lambda: jira.create_issue_link('Blocks', 'COMP-98', 'FARM-7').status_code,
    'add_vote': lambda: jira.add_vote('COMP-117').status_code,
    'remove_vote': lambda: jira.remove_vote('COMP-117'),
    'add_watcher': lambda: jira.add_watcher('COMP-117', 'ben').status_code,
    'remove_watcher': lambda: jira.remove_watcher('COMP-117', 'ben').status_code,
    'add_attachment': lambda: jira.add_attachment('COMP-101', __file__).id,
    'delete_attachment': lambda: jira.delete_attachment('20004').status_code,
    'create_version': lambda: jira.create_version('5.0', 'COMP').id,
    'create_component': lambda: jira.create_component('linker', 'COMP').id,
    'delete_issue': lambda: jira.issue('COMP-98').delete(),
}
calls.report(READS, WRITES, site, phase)
