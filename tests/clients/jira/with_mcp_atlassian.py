"""mcp-atlassian, asked by an MCP client as an assistant would ask it. Writes are enabled in it: only the gate is to stop them."""

import asyncio
import json
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

import calls

url, token, site, phase = sys.argv[1:]
ISSUE, PROJECT = {'issue_key': 'COMP-101'}, {'project_key': 'COMP'}
READS = {
    'jira_get_user_profile': {'user_identifier': 'ann'},
    'jira_get_issue_watchers': ISSUE,
    'jira_get_issue': ISSUE | {'fields': '*all'},
    'jira_search': {'jql': 'project = COMP ORDER BY key'},
    'jira_search_fields': {'keyword': 'status'},
    'jira_search_assignable_users': {'query': 'a', 'project_key': 'COMP'},
    'jira_get_project_issues': PROJECT,
    'jira_get_transitions': ISSUE,
    'jira_get_worklog': ISSUE,
    'jira_download_attachments': ISSUE,
    'jira_get_issue_images': ISSUE,
    'jira_get_agile_boards': {},
    'jira_get_board_issues': {'board_id': '1', 'jql': 'project = COMP'},
    'jira_get_sprints_from_board': {'board_id': '1'},
    'jira_get_sprint_issues': {'sprint_id': '1'},
    'jira_get_link_types': {},
    'jira_get_project_issue_types': PROJECT,
    'jira_get_create_fields': PROJECT | {'issue_type_id': '1'},
    'jira_get_project_versions': PROJECT,
    'jira_get_project_components': PROJECT,
    'jira_get_all_projects': {},
    'jira_search_projects': {'query': 'Comp'},
    'jira_get_project_fields': PROJECT,
    'jira_get_service_desk_for_project': PROJECT,
    'jira_get_service_desk_queues': {'service_desk_id': '1'},
    'jira_get_queue_issues': {'service_desk_id': '1', 'queue_id': '1'},
    'jira_get_request_types': {'service_desk_id': '1'},
    'jira_get_request_type_fields': {'service_desk_id': '1', 'request_type_id': '10'},
    'jira_get_issue_dates': ISSUE,
    'jira_get_issue_sla': ISSUE,
    'jira_get_issue_development_info': ISSUE,
    'jira_get_issues_development_info': {'issue_keys': 'COMP-101,COMP-98'},
    'jira_get_project_epic_hierarchy': PROJECT,
    'jira_get_cross_project_dependencies': PROJECT,
}
WRITES = {
    'create_issue': ('jira_create_issue', PROJECT | {'summary': 'mine', 'issue_type': 'Bug'}),
    'update_issue': ('jira_update_issue', {'issue_key': 'COMP-117', 'fields': json.dumps({'summary': 'mine'})}),
    'add_comment': ('jira_add_comment', ISSUE | {'body': 'was here'}),
    'transition_issue': ('jira_transition_issue', {'issue_key': 'COMP-117', 'transition_id': '11'}),
    'add_worklog': ('jira_add_worklog', ISSUE | {'time_spent': '1m'}),
    'create_issue_link': (
        'jira_create_issue_link',
        {'link_type': 'Blocks', 'inward_issue_key': 'COMP-98', 'outward_issue_key': 'FARM-7'},
    ),
    'add_watcher': ('jira_add_watcher', {'issue_key': 'COMP-117', 'user_identifier': 'ben'}),
    'delete_issue': ('jira_delete_issue', {'issue_key': 'COMP-98'}),
}


async def ask(session, tool, arguments):
    result = await session.call_tool(tool, arguments)
    parts = [part.model_dump(exclude_none=True) for part in result.content]
    if result.isError:
        raise RuntimeError(' '.join(part.get('text', '') for part in parts))
    texts = [json.loads(part['text']) if part.get('text', '').startswith(('{', '[')) else part for part in parts]
    for text in texts:
        if isinstance(text, dict) and text.get('success') is False:
            raise RuntimeError(json.dumps(text))
    return texts


async def main():
    command = os.path.join(os.path.dirname(sys.executable), 'mcp-atlassian')
    environment = os.environ | {'JIRA_URL': url, 'JIRA_PERSONAL_TOKEN': token, 'TOOLSETS': 'all', 'LOG_LEVEL': 'ERROR'}
    server = StdioServerParameters(command=command, args=[], env=environment)
    wanted = {name: (name, arguments) for name, arguments in READS.items()} if phase == 'reads' else WRITES
    outcomes = {}
    async with stdio_client(server, errlog=open(os.devnull, 'w')) as streams, ClientSession(*streams) as session:
        await session.initialize()
        for name, (tool, arguments) in wanted.items():
            before = calls.changes(site)
            try:
                outcome = {'value': await ask(session, tool, arguments)}
            except Exception as error:
                outcome = {'error': str(error)}
            outcomes[name] = outcome | {'changes': calls.changes(site) - before}
    json.dump(outcomes, sys.stdout, default=str, sort_keys=True)


asyncio.run(main())
