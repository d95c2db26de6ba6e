using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using KvNode.Raft;

namespace KvNode.Server.Commands;

/// <summary>
/// INFO's text. Field names are Redis's where Redis has the field and the meaning is the same; fields that would have
/// to be invented are left out.
/// </summary>
internal static class InfoReport
{
    private static readonly Section[] Sections =
    [
        new("Server", InDefault: true, Server),
        new("Clients", InDefault: true, Clients),
        new("Memory", InDefault: true, Memory),
        new("Persistence", InDefault: true, Persistence),
        new("Stats", InDefault: true, Stats),
        new("Replication", InDefault: true, Replication),
        new("CPU", InDefault: true, Processor),
        new("Raft", InDefault: true, Raft),
        new("Commandstats", InDefault: false, CommandStatistics),
        new("Cluster", InDefault: true, Cluster),
        new("Keyspace", InDefault: true, Keyspace),
    ];

    /// <summary>
    /// The sections asked for by name in any case, each once and in the fixed order; none asked for or
    /// <c>default</c> = those of every day, <c>all</c> and <c>everything</c> = all. Unknown names are ignored.
    /// </summary>
    public static string Write(INodeControl node, ReadOnlySpan<string> wanted)
    {
        var text = new StringBuilder();
        foreach (var section in Sections)
        {
            if (!IsWanted(section, wanted))
            {
                continue;
            }

            text.Append(text.Length > 0 ? "\r\n" : "");
            text.Append(CultureInfo.InvariantCulture, $"# {section.Name}\r\n");
            section.Write(new Fields(text), node);
        }

        return text.ToString();
    }

    private static bool IsWanted(Section section, ReadOnlySpan<string> wanted)
    {
        if (wanted.Length == 0)
        {
            return section.InDefault;
        }

        foreach (var name in wanted)
        {
            if (Is(name, section.Name) || Is(name, "all") || Is(name, "everything")
                || (section.InDefault && Is(name, "default")))
            {
                return true;
            }
        }

        return false;

        static bool Is(string name, string other) => string.Equals(name, other, StringComparison.OrdinalIgnoreCase);
    }

    private static void Server(Fields to, INodeControl node)
    {
        to.Add("redis_version", ProductVersion.Redis);
        to.Add("kvnode_version", ProductVersion.KvNode);
        to.Add("redis_mode", "standalone");
        to.Add("os", RuntimeInformation.OSDescription);
        to.Add("arch_bits", Environment.Is64BitProcess ? 64 : 32);
        to.Add("dotnet_version", Environment.Version.ToString());
        to.Add("process_id", Environment.ProcessId);
        if (Setting(node, "port") is { } port)
        {
            to.Add("tcp_port", port);
        }

        to.Add("server_time_usec", (DateTime.UtcNow - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond);
        to.Add("uptime_in_seconds", node.UptimeMs / 1000);
        to.Add("uptime_in_days", node.UptimeMs / 86_400_000);
        to.Add("executable", Environment.ProcessPath ?? "");
    }

    private static void Clients(Fields to, INodeControl node)
    {
        long queryMax = 0, outputMax = 0;
        foreach (var client in node.Clients)
        {
            queryMax = Math.Max(queryMax, client.QueryBufferBytes);
            outputMax = Math.Max(outputMax, client.OutputBufferBytes);
        }

        to.Add("connected_clients", node.Clients.Count);
        if (Setting(node, "maxclients") is { } clientsMax)
        {
            to.Add("maxclients", clientsMax);
        }

        to.Add("client_recent_max_input_buffer", queryMax);
        to.Add("client_recent_max_output_buffer", outputMax);
        to.Add("blocked_clients", 0);
    }

    private static void Memory(Fields to, INodeControl node)
    {
        var heap = GC.GetTotalMemory(forceFullCollection: false);
        var process = ProcessMemory.Read();
        to.AddBytes("used_memory", heap);
        to.AddBytes("used_memory_rss", process.Resident);
        to.AddBytes("used_memory_rss_peak", process.ResidentPeak);
        to.Add("used_memory_rss_anonymous", process.Anonymous);
        to.Add("used_memory_rss_mapped_files", process.MappedFiles);
        to.Add("write_buffer_bytes", node.StoreStatus.BufferBytes);
        to.AddBytes("total_system_memory", GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        to.AddBytes("maxmemory", 0);
        to.Add("maxmemory_policy", "noeviction");
        to.Add("mem_fragmentation_ratio", (double)process.Resident / Math.Max(1, heap));
        to.Add("mem_allocator", "dotnet");
    }

    private static void Persistence(Fields to, INodeControl node)
    {
        var status = node.Status;
        var metrics = node.Metrics;
        var store = node.StoreStatus;
        to.Add("loading", 0);
        to.Add("aof_enabled", 1);
        to.Add("aof_last_write_status", status.WriteRefusal is null ? "ok" : "err");
        to.Add("aof_current_size", status.LogBytes);
        to.Add("write_refusal", status.WriteRefusal ?? "");
        to.Add("wal_durable_index", status.DurableIndex);
        to.Add("wal_bytes_written", metrics.LogBytesWritten);
        to.Add("wal_entries", metrics.Entries);
        to.Add("wal_syncs", metrics.Syncs);
        to.Add("wal_sync_usec", metrics.SyncMicroseconds);
        to.Add("wal_sync_usec_max", metrics.SyncMicrosecondsMax);
        to.Add("store_durable_index", store.DurableIndex);
        to.Add("store_file_bytes", store.FileBytes);
        to.Add("store_map_bytes", store.MapBytes);
        to.Add("store_buffer_bytes", store.BufferBytes);
        to.Add("store_buffer_keys", store.BufferKeys);
        to.Add("store_flushes", store.Flushes);
        to.Add("store_flush_usec", store.FlushMicroseconds);
        to.Add("store_last_flush_unix_ms", store.LastFlushUnixMs);
        to.Add("store_flush_error", store.FlushError ?? "");
        to.Add("store_readers", store.Readers);
    }

    private static void Stats(Fields to, INodeControl node)
    {
        var stats = node.Stats;
        to.Add("total_connections_received", Interlocked.Read(ref stats.ConnectionsReceived));
        to.Add("total_commands_processed", Interlocked.Read(ref stats.CommandsProcessed));
        to.Add("total_net_input_bytes", Interlocked.Read(ref stats.NetInputBytes));
        to.Add("total_net_output_bytes", Interlocked.Read(ref stats.NetOutputBytes));
        to.Add("rejected_connections", Interlocked.Read(ref stats.ConnectionsRejected));
        to.Add("expired_keys", 0);
        to.Add("evicted_keys", 0);
        to.Add("evicted_clients", 0);
        to.Add("keyspace_hits", Interlocked.Read(ref stats.KeyspaceHits));
        to.Add("keyspace_misses", Interlocked.Read(ref stats.KeyspaceMisses));
        to.Add("total_error_replies", Interlocked.Read(ref stats.ErrorReplies));
        to.Add("clients_closed_by_limit", Interlocked.Read(ref stats.ClientsClosedByLimit));
        to.Add("clients_closed_idle", Interlocked.Read(ref stats.ClientsClosedIdle));
    }

    private static void Replication(Fields to, INodeControl node)
    {
        var status = node.Status;
        var leads = status.Role == RaftRole.Leader;
        to.Add("role", leads ? "master" : "slave");
        if (leads)
        {
            Replicas(to, status);
        }
        else
        {
            var (host, port) = SplitAddress(status.LeaderAddress ?? "");
            to.Add("master_host", host);
            to.Add("master_port", port);
            to.Add("master_link_status", status.LeaderAddress is null ? "down" : "up");
            to.Add("master_last_io_seconds_ago", status.LastContact is { } contact ? (long)contact.TotalSeconds : -1);
            to.Add("slave_repl_offset", status.AppliedIndex);
            to.Add("slave_read_only", 1);
            to.Add("connected_slaves", 0);
        }

        // Redis counts bytes of a stream, here it is the log's entries.
        to.Add("master_repl_offset", status.CommitIndex);
    }

    private static void Replicas(Fields to, NodeStatus status)
    {
        var replicas = new List<RaftMember>(status.Members);
        _ = replicas.RemoveAll(member => member.Id == status.NodeId);
        to.Add("connected_slaves", replicas.Count(static member => member.Role is not null));
        for (var i = 0; i < replicas.Count; i++)
        {
            var (host, port) = SplitAddress(replicas[i].Address);
            var state = replicas[i].Role is null ? "offline" : "online";
            var offset = replicas[i].Match ?? 0;
            var behind = status.LastLog.Index - Math.Min(offset, status.LastLog.Index);
            to.Add($"slave{i}", string.Create(
                CultureInfo.InvariantCulture, $"ip={host},port={port},state={state},offset={offset},entries_behind={behind}"));
        }
    }

    private static void Processor(Fields to, INodeControl node)
    {
        // The process's own numbers; the node has none of its own.
        _ = node;
        var usage = Environment.CpuUsage;
        to.Add("used_cpu_sys", usage.PrivilegedTime.TotalSeconds);
        to.Add("used_cpu_user", usage.UserTime.TotalSeconds);
    }

    private static void Raft(Fields to, INodeControl node)
    {
        var status = node.Status;
        to.Add("raft_node_id", MemberCommands.IdOf(status.NodeId));
        to.Add("raft_cluster_id", MemberCommands.IdOf(status.ClusterId));
        to.Add("raft_role", NameOf(status.Role));
        to.Add("raft_removed", status.IsRemoved ? 1 : 0);
        to.Add("raft_leader_id", status.LeaderId == 0 ? "" : MemberCommands.IdOf(status.LeaderId));
        to.Add("raft_last_contact", RaftCommands.DurationOf(status.LastContact));
        to.Add("raft_leader", status.LeaderAddress ?? "");
        to.Add("raft_term", status.Term);
        to.Add("raft_commit_index", status.CommitIndex);
        to.Add("raft_applied_index", status.AppliedIndex);
        to.Add("raft_durable_index", status.DurableIndex);
        to.Add("raft_first_log_index", status.FirstLogIndex);
        to.Add("raft_last_log_index", status.LastLog.Index);
        to.Add("raft_last_log_term", status.LastLog.Term);
        to.Add("raft_last_snapshot_index", status.LastSnapshot.Index);
        to.Add("raft_last_snapshot_term", status.LastSnapshot.Term);
        to.Add("raft_log_bytes", status.LogBytes);
        to.Add("raft_proposals", node.Metrics.Proposals);
        to.Add("raft_members", status.Members.Count);
        var number = 0;
        foreach (var member in status.Members)
        {
            var role = member.Role is { } known ? NameOf(known) : "unreachable";
            var voter = member.Voter ? 1 : 0;
            var match = member.Match is { } index ? string.Create(CultureInfo.InvariantCulture, $",match={index}") : "";
            to.Add(
                $"raft_member{number++}",
                $"id={MemberCommands.IdOf(member.Id)},addr={member.Address},voter={voter},role={role}{match}");
        }
    }

    private static void CommandStatistics(Fields to, INodeControl node)
    {
        // Counted per row of the one table of this process.
        _ = node;
        foreach (var row in CommandTable.Default.Rows)
        {
            OneCommand(to, row);
            foreach (var subcommand in row.Subcommands)
            {
                OneCommand(to, subcommand);
            }
        }
    }

    private static void OneCommand(Fields to, CommandSpec row)
    {
        var calls = Interlocked.Read(ref row.Stats.Calls);
        var rejected = Interlocked.Read(ref row.Stats.Rejected);
        var failed = Interlocked.Read(ref row.Stats.Failed);
        if (calls == 0 && rejected == 0 && failed == 0)
        {
            return;
        }

        var microseconds = Interlocked.Read(ref row.Stats.Ticks) * 1_000_000.0 / Stopwatch.Frequency;
        var each = microseconds / Math.Max(1, calls);
        var times = string.Create(CultureInfo.InvariantCulture, $"usec={microseconds:F0},usec_per_call={each:F2}");
        to.Add($"cmdstat_{row.DisplayName}", $"calls={calls},{times},rejected_calls={rejected},failed_calls={failed}");
    }

    private static void Cluster(Fields to, INodeControl node)
    {
        // Clients ask for this line before they decide how to talk: only with MOVED do they meet a Redis Cluster here.
        to.Add("cluster_enabled", Setting(node, "follower") == "moved" ? 1 : 0);
    }

    private static void Keyspace(Fields to, INodeControl node)
    {
        if (node.StoreStatus.Keys is > 0 and var keys)
        {
            to.Add("db0", string.Create(CultureInfo.InvariantCulture, $"keys={keys},expires=0,avg_ttl=0"));
        }
    }

    private static string? Setting(INodeControl node, string name)
    {
        foreach (var setting in node.Settings)
        {
            if (setting.Key == name)
            {
                return setting.Value;
            }
        }

        return null;
    }

    private static (string Host, string Port) SplitAddress(string address)
    {
        var colon = address.LastIndexOf(':');
        return colon < 0 ? (address, "0") : (address[..colon], address[(colon + 1)..]);
    }

    private static string NameOf(RaftRole role) => role switch
    {
        RaftRole.Leader => "leader",
        RaftRole.Follower => "follower",
        RaftRole.Candidate => "candidate",
        _ => "shutdown",
    };

    /// <summary><c>1536</c> as <c>1.50K</c>, the way Redis writes it.</summary>
    internal static string Human(long bytes)
    {
        ReadOnlySpan<char> units = "KMGT";
        if (bytes < 1024)
        {
            return string.Create(CultureInfo.InvariantCulture, $"{bytes}B");
        }

        var value = bytes / 1024.0;
        var unit = 0;
        while (value >= 1024 && unit < units.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        return string.Create(CultureInfo.InvariantCulture, $"{value:F2}{units[unit]}");
    }

    private sealed record Section(string Name, bool InDefault, Action<Fields, INodeControl> Write);

    /// <summary>Writes <c>name:value</c> lines.</summary>
    private readonly struct Fields(StringBuilder text)
    {
        /// <summary>The value's line breaks become blanks: one field is one line.</summary>
        public void Add(string name, string value) =>
            text.Append(name).Append(':').Append(value.ReplaceLineEndings(" ")).Append("\r\n");

        public void Add(string name, long value) =>
            text.Append(CultureInfo.InvariantCulture, $"{name}:{value}\r\n");

        public void Add(string name, ulong value) =>
            text.Append(CultureInfo.InvariantCulture, $"{name}:{value}\r\n");

        public void Add(string name, double value) =>
            text.Append(CultureInfo.InvariantCulture, $"{name}:{value:F2}\r\n");

        /// <summary>The number, and a second field with it in units, as Redis does.</summary>
        public void AddBytes(string name, long bytes)
        {
            Add(name, bytes);
            Add($"{name}_human", Human(bytes));
        }
    }
}
