using System.CommandLine;
using System.CommandLine.Parsing;
using KvNode.Raft;
using KvNode.Raft.Engine;
using KvNode.Server.Commands;

namespace KvNode.Server.Hosting;

/// <summary>What the person asked the program to do.</summary>
internal abstract record Invocation
{
    public sealed record RunNode(NodeOptions Options) : Invocation;

    /// <param name="File">A path, or <c>-</c> for standard input.</param>
    public sealed record ParseSnapshot(string File, SnapshotDialect Dialect) : Invocation;

    /// <param name="LogDirectory">Equal to the data directory unless set.</param>
    public sealed record Check(string DataDirectory, string LogDirectory) : Invocation;

    /// <param name="LogDirectory">Equal to the data directory unless set.</param>
    /// <param name="Advertise">Where the node is reached from then on.</param>
    public sealed record Recover(string DataDirectory, string LogDirectory, string Advertise) : Invocation;

    /// <summary>Text for standard output; exit code 0.</summary>
    public sealed record Say(string Text) : Invocation;

    /// <summary>Text for standard error; exit code <see cref="ExitCodes.Usage"/>.</summary>
    public sealed record Refuse(string Reason) : Invocation;
}

/// <summary>
/// The program's arguments: one row per setting. A flag wins over its environment variable, that over the default. A
/// wrong value of either is an error, never a silent default.
/// </summary>
/// <remarks>
/// The original was written with Go's flag package, where <c>-addr x</c> and <c>--addr x</c> are the same; both forms
/// are taken here too, with a space or with <c>=</c>.
/// </remarks>
internal sealed class CommandLine
{
    private readonly Setting<ListenAddress> _address;
    private readonly Setting<string> _data;
    private readonly Setting<string> _logDirectory;
    private readonly Setting<string> _advertise;
    private readonly Setting<string> _join;
    private readonly Setting<FollowerReply> _follower;
    private readonly Setting<int> _leaderWait;
    private readonly Setting<int> _election;
    private readonly Setting<int> _logKeep;
    private readonly Setting<ReadLevel> _consistency;
    private readonly Setting<Durability> _durability;
    private readonly Setting<int> _maxValue;
    private readonly Setting<int> _maxClients;
    private readonly Setting<int> _timeout;
    private readonly Setting<int> _keepAlive;
    private readonly Setting<int> _queryBuffer;
    private readonly Setting<int> _outputBuffer;
    private readonly Setting<int> _snapshotsKeep;
    private readonly Setting<int> _writeBuffer;
    private readonly Setting<int> _segmentSize;
    private readonly SecuritySettings _security;
    private readonly Setting<LogLevel> _logLevel;
    private readonly Setting<LogFormat> _logFormat;
    private readonly Setting<string> _parseSnapshot;
    private readonly Setting<SnapshotDialect> _snapshotFormat;

    private readonly Option<bool> _help = new("--help", "-h", "-?");
    private readonly Option<bool> _version = new("--version");
    private readonly Argument<string> _checkDirectory = new("DIR");
    private readonly Command _check = new("check");
    private readonly Command _recover = new("recover");
    private readonly Option<bool> _forceNewCluster = new("--force-new-cluster");
    private readonly RootCommand _root = new();
    private readonly List<ISetting> _settings = [];
    private readonly Func<string, string?> _environment;

    /// <param name="environment">Looks an environment variable up; null when it is not set.</param>
    public CommandLine(Func<string, string?> environment)
    {
        _environment = environment;
        _root.Options.Clear();
        _root.Directives.Clear();

        _address = Add<ListenAddress>("--addr", "HOST:PORT", "127.0.0.1:4920",
            "Address to listen on; `:4920` is every address.", ListenAddress.TryParse);
        _data = Add<string>("--data", "DIR", "data",
            "Directory of the store; made if missing.", ValueParsers.Path);
        _logDirectory = Add<string>("--log-dir", "DIR", "",
            "Directory of the log and the snapshots; without it, that of `--data`.", ValueParsers.Text);
        _join = Add<string>("--join", "HOST:PORT", "",
            "Any member of the cluster to join, or `wait` to be added by one; without it, an empty directory begins a new cluster.",
            JoinTarget);
        _advertise = Add<string>("--advertise", "HOST:PORT", "",
            "Where clients and other nodes reach this one; without it, `--addr`.", ValueParsers.OptionalAddress);
        _follower = Add<FollowerReply>("--follower", "forward|try|moved", "forward",
            "Writes and fresh reads while another node leads: brought to it, or refused with `-TRY` or `-MOVED`.",
            ValueParsers.Follower);
        _leaderWait = AddNumber("--leader-wait", Limits.LeaderWaitMilliseconds,
            "Milliseconds that a command waits for a leader to be elected.");
        _election = AddNumber("--election-timeout", Limits.ElectionMilliseconds,
            "Milliseconds without a word of the leader after which another is elected; twice as long at most.");
        _logKeep = AddSize("--log-keep", Limits.LogKeepBytes,
            "Log kept for members that are behind; beyond it they get a snapshot. For those that are being served it may grow to twice this, or by the size of the state.");
        _consistency = Add<ReadLevel>("--consistency", "low|medium|high", "high",
            "How fresh a read is: this node's state, the leader's by its lease, everything acknowledged anywhere.",
            ValueParsers.Consistency);
        _durability = Add<Durability>("--durability", "low|medium|high", "high",
            "When the log is synced: left to the system, every second, before every `+OK`.", ValueParsers.Durability);
        _maxValue = AddSize("--max-value", Limits.ValueBytes,
            "Longest value, at most 512mb.");
        _maxClients = AddNumber("--max-clients", Limits.Clients,
            "Connections at one time; more are told so and closed.");
        _timeout = AddNumber("--timeout", Limits.IdleSeconds,
            "Seconds after which an idle client is closed; 0 is never.");
        _keepAlive = AddNumber("--tcp-keepalive", Limits.KeepAliveSeconds,
            "Seconds of silence before a client's machine is probed; 0 is never.");
        _queryBuffer = AddSize("--query-buffer", Limits.QueryBufferBytes,
            "Longest command, and most unread input of one client; 1mb more than `--max-value` at least.");
        _outputBuffer = AddSize("--client-output-buffer", Limits.OutputBufferBytes,
            "Most unsent replies of one client before it is closed; 1mb more than `--max-value` at least.");
        _snapshotsKeep = AddNumber("--snapshots-keep", Limits.SnapshotsKeep,
            "Snapshots kept; older ones are removed.");
        _writeBuffer = AddSize("--write-buffer", Limits.WriteBufferBytes,
            "Writes held in memory before they are flushed into the store.");
        _segmentSize = AddSize("--wal-segment-size", Limits.WalSegmentBytes,
            "Size of one file of the log.");
        _security = new SecuritySettings((flag, value, meaning, parse) => Add(flag, value, "", meaning, parse));
        _logLevel = Add<LogLevel>("--log-level", "debug|info|warning|error", "info",
            "Least important log line that is written.", ValueParsers.Level);
        _logFormat = Add<LogFormat>("--log-format", "text|json", "text",
            "Form of the log lines on standard error.", ValueParsers.Format);
        _parseSnapshot = Add<string>("--parse-snapshot", "FILE", "",
            "Write a snapshot's `state.bin` (`-`: standard input) as SET commands to standard output.", ValueParsers.Text);
        _snapshotFormat = Add<SnapshotDialect>("--snapshot-format", "auto|kvnode|bitraft", "auto",
            "Whose snapshot it is, where the content does not say.", ValueParsers.Snapshot);

        _logDirectory.Recursive = true;
        _data.Recursive = true;
        _address.Recursive = true;
        _advertise.Recursive = true;
        _help.Recursive = true;
        _root.Options.Add(_help);
        _root.Options.Add(_version);
        _check.Arguments.Add(_checkDirectory);
        _root.Subcommands.Add(_check);
        _recover.Options.Add(_forceNewCluster);
        _root.Subcommands.Add(_recover);
        _root.SetAction(static _ => ExitCodes.Ok); // never invoked: with it, the program may be run without a subcommand
    }

    /// <summary>Every setting, in the order help shows them.</summary>
    public IReadOnlyList<ISetting> Settings => _settings;

    /// <summary>The program's name and version, as <c>--version</c> prints it.</summary>
    public static string VersionText { get; } = "kvnode " + ProductVersion.KvNode;

    public Invocation Parse(string[] arguments)
    {
        var configuration = new ParserConfiguration { EnablePosixBundling = false, ResponseFileTokenReplacer = null };
        var result = CommandLineParser.Parse(_root, TwoDashes(arguments), configuration);
        if (result.GetResult(_help) is { Implicit: false })
        {
            return new Invocation.Say(HelpText.Write(_settings));
        }

        if (result.GetResult(_version) is { Implicit: false })
        {
            return new Invocation.Say(VersionText + "\n");
        }

        if (result.Errors.Count > 0)
        {
            return new Invocation.Refuse(result.Errors[0].Message);
        }

        if (result.CommandResult.Command == _check)
        {
            var directory = result.GetRequiredValue(_checkDirectory);
            return new Invocation.Check(directory, OrElse(result.GetValue(_logDirectory), directory));
        }

        if (result.CommandResult.Command == _recover)
        {
            return Recover(result);
        }

        return result.GetValue(_parseSnapshot) is { Length: > 0 } file
            ? new Invocation.ParseSnapshot(file, result.GetValue(_snapshotFormat))
            : Run(result);
    }

    private static string OrElse(string? text, string otherwise) => string.IsNullOrEmpty(text) ? otherwise : text;

    /// <summary>Empty, <c>wait</c>, or an address with a host.</summary>
    private static string? JoinTarget(string text, out string value)
    {
        value = text;
        return text == RaftOptions.WaitToBeAdded ? null : ValueParsers.OptionalAddress(text, out value);
    }

    private Invocation Recover(ParseResult result)
    {
        var data = result.GetRequiredValue(_data);
        return result.GetValue(_forceNewCluster)
            ? new Invocation.Recover(
                data,
                OrElse(result.GetValue(_logDirectory), data),
                OrElse(result.GetValue(_advertise), result.GetRequiredValue(_address).Reachable()))
            : new Invocation.Refuse(
                "recover needs --force-new-cluster: it makes this node a cluster of its own, and what only the other nodes "
                + "have is lost. It is for when a majority of the nodes is gone for good");
    }

    private Invocation Run(ParseResult result)
    {
        var data = result.GetRequiredValue(_data);
        var listen = result.GetRequiredValue(_address);
        var options = new NodeOptions
        {
            Listen = listen,
            Advertise = OrElse(result.GetValue(_advertise), listen.Reachable()),
            Join = result.GetValue(_join) is { Length: > 0 } member ? member : null,
            Follower = result.GetValue(_follower),
            LeaderWaitMs = result.GetValue(_leaderWait),
            ElectionMs = result.GetValue(_election),
            LogKeepBytes = result.GetValue(_logKeep),
            DataDirectory = data,
            LogDirectory = OrElse(result.GetValue(_logDirectory), data),
            Consistency = result.GetValue(_consistency),
            Durability = result.GetValue(_durability),
            MaxValueBytes = result.GetValue(_maxValue),
            MaxClients = result.GetValue(_maxClients),
            IdleSeconds = result.GetValue(_timeout),
            KeepAliveSeconds = result.GetValue(_keepAlive),
            QueryBufferBytes = BufferBytes(result, _queryBuffer),
            OutputBufferBytes = BufferBytes(result, _outputBuffer),
            SnapshotsKeep = result.GetValue(_snapshotsKeep),
            WriteBufferBytes = result.GetValue(_writeBuffer),
            WalSegmentBytes = result.GetValue(_segmentSize),
            Security = _security.Read(result),
            LogLevel = result.GetValue(_logLevel),
            LogFormat = result.GetValue(_logFormat),
        };
        return options.Problem() is { } problem ? new Invocation.Refuse(problem) : new Invocation.RunNode(options);
    }

    /// <summary>A buffer nobody set grows with the largest value; one that was set is left to <see cref="NodeOptions.Problem"/>.</summary>
    private int BufferBytes(ParseResult result, Setting<int> buffer)
    {
        var bytes = result.GetValue(buffer);
        var isSet = result.GetResult(buffer) is { Implicit: false } || _environment(buffer.Variable) is { Length: > 0 };
        return isSet ? bytes : Math.Max(bytes, Limits.CommandBytesAroundValue + result.GetValue(_maxValue));
    }

    /// <summary>Go's one-dash form of a known flag becomes the two-dash form; everything else stays as it is.</summary>
    private string[] TwoDashes(string[] arguments)
    {
        var result = new string[arguments.Length];
        for (var i = 0; i < arguments.Length; i++)
        {
            result[i] = IsOneDashFlag(arguments[i]) ? "-" + arguments[i] : arguments[i];
        }

        return result;
    }

    private bool IsOneDashFlag(string argument)
    {
        if (argument is not ['-', not '-', ..])
        {
            return false;
        }

        var equals = argument.IndexOf('=');
        var name = string.Concat("-", equals < 0 ? argument : argument[..equals]);
        return name is "--help" or "--version" || _settings.Exists(setting => setting.Flag == name);
    }

    private Setting<T> Add<T>(string flag, string value, string defaultText, string meaning, ValueParser<T> parse)
    {
        var setting = new Setting<T>(flag, value, defaultText, meaning, parse, _environment);
        _root.Options.Add(setting);
        _settings.Add(setting);
        return setting;
    }

    private Setting<int> AddSize(string flag, Bounds bounds, string meaning) =>
        Add(flag, "SIZE", ValueParsers.SizeText(bounds.Default), meaning, ValueParsers.Size(bounds));

    private Setting<int> AddNumber(string flag, Bounds bounds, string meaning) =>
        Add(flag, "N", $"{bounds.Default}", meaning, ValueParsers.Number(bounds));
}
