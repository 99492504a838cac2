// jira.js, as its users call it, in both versions of the API.
const { Version2Client, Version3Client, AgileClient } = require('jira.js');

const [url, token, site, phase] = process.argv.slice(2);
const settings = { host: url, authentication: { oauth2: { accessToken: token } } };
const v2 = new Version2Client(settings);
const v3 = new Version3Client(settings);
const agile = new AgileClient(settings);

const reads = {
  getIssue: () => v3.issues.getIssue({ issueIdOrKey: 'COMP-101', expand: ['changelog', 'names'], fields: ['summary', 'description'] }),
  'getIssue of version 2': () => v2.issues.getIssue({ issueIdOrKey: 'COMP-101' }),
  searchForIssuesUsingJqlEnhancedSearch: () => v3.issueSearch.searchForIssuesUsingJqlEnhancedSearch({ jql: 'project = COMP' }),
  searchForIssuesUsingJqlEnhancedSearchPost: () => v3.issueSearch.searchForIssuesUsingJqlEnhancedSearchPost({ jql: 'project = COMP', fields: ['summary'] }),
  countIssues: () => v3.issueSearch.countIssues({ jql: 'project = COMP' }),
  getComments: () => v3.issueComments.getComments({ issueIdOrKey: 'COMP-101' }),
  getIssueWorklog: () => v3.issueWorklogs.getIssueWorklog({ issueIdOrKey: 'COMP-101' }),
  getTransitions: () => v3.issues.getTransitions({ issueIdOrKey: 'COMP-101' }),
  getEditIssueMeta: () => v3.issues.getEditIssueMeta({ issueIdOrKey: 'COMP-101' }),
  getChangeLogs: () => v3.issues.getChangeLogs({ issueIdOrKey: 'COMP-101' }),
  getVotes: () => v3.issueVotes.getVotes({ issueIdOrKey: 'COMP-101' }),
  getIssueWatchers: () => v3.issueWatchers.getIssueWatchers({ issueIdOrKey: 'COMP-101' }),
  searchProjects: () => v3.projects.searchProjects(),
  getProject: () => v3.projects.getProject({ projectIdOrKey: 'COMP' }),
  getFields: () => v3.issueFields.getFields(),
  getPriorities: () => v3.issuePriorities.getPriorities(),
  getStatuses: () => v3.workflowStatuses.getStatuses(),
  getIssueLinkTypes: () => v3.issueLinkTypes.getIssueLinkTypes(),
  getCurrentUser: () => v3.myself.getCurrentUser(),
  findUsers: () => v3.userSearch.findUsers({ query: 'a' }),
  getServerInfo: () => v3.serverInfo.getServerInfo(),
  getAttachment: () => v3.issueAttachments.getAttachment({ id: '20003' }),
  getAllDashboards: () => v3.dashboards.getAllDashboards(),
  getFavouriteFilters: () => v3.filters.getFavouriteFilters(),
  getAllBoards: () => agile.board.getAllBoards(),
  getAllSprints: () => agile.board.getAllSprints({ boardId: 1 }),
};
const fields = { project: { key: 'COMP' }, issuetype: { name: 'Bug' }, summary: 'mine' };
const writes = {
  create_issue: () => v3.issues.createIssue({ fields }),
  create_issues: () => v3.issues.createIssues({ issueUpdates: [{ fields }] }),
  update_issue: () => v3.issues.editIssue({ issueIdOrKey: 'COMP-117', fields: { summary: 'mine' } }),
  assign_issue: () => v3.issues.assignIssue({ issueIdOrKey: 'COMP-117', accountId: 'ben' }),
  add_comment: () => v2.issueComments.addComment({ issueIdOrKey: 'COMP-101', comment: 'was here' }),
  delete_comment: () => v3.issueComments.deleteComment({ issueIdOrKey: 'COMP-101', id: '20001' }),
  transition_issue: () => v3.issues.doTransition({ issueIdOrKey: 'COMP-117', transition: { id: '11' } }),
  add_worklog: () => v3.issueWorklogs.addWorklog({ issueIdOrKey: 'COMP-101', timeSpentSeconds: 60 }),
  create_issue_link: () => v3.issueLinks.linkIssues({ type: { name: 'Blocks' }, inwardIssue: { key: 'COMP-98' }, outwardIssue: { key: 'FARM-7' } }),
  add_vote: () => v3.issueVotes.addVote({ issueIdOrKey: 'COMP-117' }),
  delete_attachment: () => v3.issueAttachments.removeAttachment({ id: '20004' }),
  delete_issue: () => v3.issues.deleteIssue({ issueIdOrKey: 'COMP-98' }),
};

// How often the site was changed, which no gate can answer for it.
const changes = async () => (await (await fetch(`${site}/writes`)).json()).writes;

const words = error => `${error.message} ${JSON.stringify(error.response?.data ?? error.response ?? error)}`;

async function main() {
  const outcomes = {};
  for (const [name, call] of Object.entries(phase === 'reads' ? reads : writes)) {
    const before = await changes();
    let outcome;
    try {
      outcome = { value: (await call()) ?? null };
    } catch (error) {
      outcome = { error: words(error) };
    }
    outcomes[name] = { ...outcome, changes: (await changes()) - before };
  }
  process.stdout.write(JSON.stringify(outcomes));
}

main();
