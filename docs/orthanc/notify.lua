-- Tells flute-sync which studies this Orthanc stored, changed or deleted: ../webhook.md.
--
-- In Orthanc's configuration:
--   "LuaScripts": ["/etc/orthanc/notify.lua"],
--   "FluteSync": {
--     "Url": "http://127.0.0.1:8104/notify/study",
--     "TokenFile": "/etc/orthanc/flute-sync.token",
--     "Archive": "pacs"
--   },
--   "HttpTimeout": 10
--
-- "Archive" is the archive's name in flute-sync's settings; without it every archive is asked.
-- Orthanc calls this from one thread of its own: storing never waits for it.

local INTERVAL = 10      -- seconds between two notices of a study that is being stored
local PAUSE = 5          -- seconds before flute-sync is tried again when it could not be told
local AT_ONCE = 1000     -- studies in one notice
local REMEMBERED = 1000000 -- ids of studies and series; of what is not remembered no deletion is told

local uid_of = {}        -- Orthanc's id of a study or series -> StudyInstanceUID
local remembered = 0
local told_at = {}       -- StudyInstanceUID -> when it was last told while being stored
local untold = {}        -- StudyInstanceUID -> the latest change that flute-sync does not know yet
local wait_until = 0
local settings

local function setting(name)
  settings = settings or GetOrthancConfiguration()['FluteSync'] or {}
  return settings[name]
end

local function remember(id, uid)
  if uid_of[id] == nil and remembered < REMEMBERED then
    uid_of[id] = uid
    remembered = remembered + 1
  end
end

local function forget(id)
  local uid = uid_of[id]
  if uid ~= nil then
    uid_of[id] = nil
    remembered = remembered - 1
  end
  return uid
end

-- What Orthanc tells of a deletion is an id that it no longer knows, so it is kept beforehand.
local function remember_study(study)
  local uid = study['MainDicomTags']['StudyInstanceUID']
  if uid ~= nil and uid ~= '' then
    remember(study['ID'], uid)
    for _, series in ipairs(study['Series']) do
      remember(series, uid)
    end
  end
end

local function get(uri)
  local answer = RestApiGet(uri)
  return answer and ParseJson(answer)
end

local function token()
  local file = io.open(setting('TokenFile') or '', 'r')
  if file == nil then
    print('flute-sync: FluteSync.TokenFile cannot be read')
    return ''
  end
  local line = file:read('l') or ''
  file:close()
  return line
end

local function post(changes)
  local headers = {
    ['Content-Type'] = 'application/json',
    ['Authorization'] = 'Bearer ' .. token(),
  }
  return HttpPost(setting('Url'), DumpJson(changes, true), headers) ~= nil
end

local function tell_untold()
  while next(untold) ~= nil and os.time() >= wait_until do
    local changes = {}
    for _, change in pairs(untold) do
      changes[#changes + 1] = change
      if #changes == AT_ONCE then break end
    end
    if post(changes) then
      for _, change in ipairs(changes) do
        untold[change['StudyInstanceUID']] = nil
      end
    else
      wait_until = os.time() + PAUSE
    end
  end
end

local function tell(kind, level, uid)
  if uid ~= nil and uid ~= '' and setting('Url') ~= nil then
    untold[uid] = {
      ['ChangeType'] = kind,
      ['ResourceType'] = level,
      ['StudyInstanceUID'] = uid,
      ['archive'] = setting('Archive'),
    }
  end
  tell_untold()
end

-- A function of the same name that another script defined is called too.
local function on(event, ours)
  local theirs = _G[event]
  _G[event] = function(...)
    if theirs ~= nil then theirs(...) end
    ours(...)
  end
end

on('Initialize', function()
  local since = 0
  repeat
    local page = get('/studies?expand&since=' .. since .. '&limit=500') or {}
    for _, study in ipairs(page) do
      remember_study(study)
    end
    since = since + 500
  until #page < 500
end)

on('OnStoredInstance', function(id, tags)
  local uid, now = tags['StudyInstanceUID'], os.time()
  if uid == nil or now < (told_at[uid] or 0) + INTERVAL then return end
  told_at[uid] = now
  local study = get('/instances/' .. id .. '/study')
  if study ~= nil then remember_study(study) end
  tell('NewInstance', 'Instance', uid)
end)

on('OnStableStudy', function(id, tags)
  local uid = tags['StudyInstanceUID']
  if uid == nil then return end
  told_at[uid] = nil
  local study = get('/studies/' .. id)
  if study ~= nil then remember_study(study) end
  tell('StableStudy', 'Study', uid)
end)

on('OnDeletedSeries', function(id) tell('Deleted', 'Series', forget(id)) end)
on('OnDeletedStudy', function(id) tell('Deleted', 'Study', forget(id)) end)

-- Newer versions of Orthanc call this, where "LuaHeartBeatPeriod" is set.
on('OnHeartBeat', tell_untold)
