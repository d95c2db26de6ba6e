using System.Globalization;
using KvNode.Raft;

namespace KvNode.Server.Hosting;

/// <summary>The settings as CONFIG GET shows them: under Redis's name where Redis has one, else under the flag's.</summary>
internal static class NodeSettings
{
    public static IReadOnlyList<KeyValuePair<string, string>> Of(NodeOptions options) =>
    [
        // Tools ask these two to learn how durable the server is. There is no RDB schedule; the log is an append-only
        // file, and its fsync policy is in appendfsync.
        Setting("save", ""),
        Setting("appendonly", "yes"),
        Setting("appendfsync", options.Durability switch
        {
            Durability.High => "always",
            Durability.Medium => "everysec",
            _ => "no",
        }),
        Setting("databases", 1),
        Setting("dir", Path.GetFullPath(options.DataDirectory)),
        Setting("bind", options.Listen.Host),
        Setting("port", options.Listen.Port),
        Setting("maxclients", options.MaxClients),
        Setting("timeout", options.IdleSeconds),
        Setting("tcp-keepalive", options.KeepAliveSeconds),
        Setting("proto-max-bulk-len", options.MaxValueBytes),
        Setting("client-query-buffer-limit", options.QueryBufferBytes),
        Setting("maxmemory", 0),
        Setting("maxmemory-policy", "noeviction"),
        Setting("loglevel", options.LogLevel.ToString().ToLowerInvariant()),
        Setting("log-dir", Path.GetFullPath(options.LogDirectory)),
        Setting("consistency", Name(options.Consistency)),
        Setting("durability", Name(options.Durability)),
        Setting("advertise", options.Advertise),
        Setting("follower", options.Follower.ToString().ToLowerInvariant()),
        Setting("leader-wait", options.LeaderWaitMs),
        Setting("election-timeout", options.ElectionMs),
        Setting("log-keep", options.LogKeepBytes),
        Setting("client-output-buffer", options.OutputBufferBytes),
        Setting("snapshots-keep", options.SnapshotsKeep),
        Setting("write-buffer", options.WriteBufferBytes),
        Setting("wal-segment-size", options.WalSegmentBytes),

        // The secret itself is nobody's business.
        Setting("tls-cert-file", options.Security.CertificateFile),
        Setting("tls-key-file", options.Security.KeyFile),
        Setting("tls-ca-cert-file", options.Security.AuthorityFile),
    ];

    /// <summary>The level as the flag spells it.</summary>
    public static string Name(Durability durability) => durability.ToString().ToLowerInvariant();

    /// <inheritdoc cref="Name(Durability)"/>
    public static string Name(ReadLevel level) => level switch
    {
        ReadLevel.Linearizable => "high",
        ReadLevel.LeaderLease => "medium",
        _ => "low",
    };

    /// <summary>What a crash may cost at this level, for the start-up lines.</summary>
    public static string Meaning(Durability durability) => durability switch
    {
        Durability.High => "every +OK is on disk",
        Durability.Medium => "a power failure may cost the last second",
        _ => "a power failure may cost what the system had not written",
    };

    private static KeyValuePair<string, string> Setting(string name, string value) => new(name, value);

    private static KeyValuePair<string, string> Setting(string name, long value) =>
        new(name, value.ToString(CultureInfo.InvariantCulture));
}
