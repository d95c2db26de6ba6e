using System.Text;
using System.Text.RegularExpressions;
using KvNode.Server.Commands;
using KvNode.Server.Hosting;
using KvNode.Server.Replication;
using KvNode.Storage;
using KvNode.Testing;
using Xunit;
using ExitCodes = KvNode.Server.Hosting.ExitCodes;

namespace KvNode.Server.Tests;

/// <summary><c>kvnode check</c> on the files of a real node: sound, then damaged in one place at a time.</summary>
public sealed partial class CheckToolTests : IDisposable
{
    private readonly TempDirectory _directory = new("check");

    private string Data => _directory.Sub("data");

    private string Log => _directory.Sub("log");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task StoppedNodeIsSoundAndWhatItHoldsIsSaid()
    {
        await RunNodeAsync();
        var (code, text) = Check();
        Assert.Equal(ExitCodes.Ok, code);
        Assert.Contains("store: 3 keys", text, StringComparison.Ordinal);
        Assert.Matches("(?m)^snapshot 2-[0-9]+-[0-9]+: 3 keys in [0-9]+ bytes$", text);
        Assert.EndsWith("\nsound\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task CheckChangesNothing()
    {
        await RunNodeAsync();
        var before = Picture();
        _ = Check();
        Assert.Equal(before, Picture());
    }

    [Theory]
    [InlineData("data", "data.mdb")]
    [InlineData("log", "state.bin")]
    [InlineData("log", "meta.json")]
    [InlineData("log", "*.wal")]
    public async Task DamagedFileIsFoundAndNamed(string place, string pattern)
    {
        await RunNodeAsync();
        Spoil(place, pattern);
        var (code, text) = Check();
        Assert.Equal(ExitCodes.BadData, code);
        Assert.EndsWith("\ndamaged\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task LogThatEndsBeforeTheStoreIsDamage()
    {
        await RunNodeAsync();
        foreach (var segment in Directory.GetFiles(Path.Combine(Log, "wal")))
        {
            File.Delete(segment);
        }

        var (code, text) = Check();
        Assert.Equal(ExitCodes.BadData, code);
        Assert.EndsWith("\ndamaged\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ACrashBetweenASnapshotsInstallAndTheLogsMarkerIsSoundAndMendedByTheNextStart()
    {
        await LeaveASnapshotInstalledAndTheLogUntoldAsync();
        var before = Picture();
        var (code, text) = Check();
        Assert.Matches(
            @"(?m)^log: ends at \d+@\d+, the store took over a snapshot of \d+@\d+: the log restarts there at the next start$", text);
        Assert.EndsWith("\nsound\n", text, StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Ok, code);
        Assert.Equal(before, Picture());

        await RunNodeAsync(Data, Log, static client => Assert.Equal("\"later\"", client.Text("GET", "d")));
        (code, text) = Check();
        Assert.Matches(@"(?m)^log: continues the store, which has applied \d+@\d+$", text);
        Assert.Equal(ExitCodes.Ok, code);
    }

    [Theory]
    [InlineData("data", "data.mdb")]
    [InlineData("log", "state.bin")]
    [InlineData("log", "*.wal")]
    public async Task DamageBesideASnapshotThatTheLogIsUntoldOfIsDamage(string place, string pattern)
    {
        await LeaveASnapshotInstalledAndTheLogUntoldAsync();
        Spoil(place, pattern);
        var (code, text) = Check();
        Assert.Equal(ExitCodes.BadData, code);
        Assert.EndsWith("\ndamaged\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RunningNodeIsNotChecked()
    {
        await RunNodeAsync(_ => Assert.Throws<DirectoryLockedException>(() => Check()));
    }

    [Fact]
    public void WhereThereIsNoNodeNothingIsMade()
    {
        Assert.Throws<DirectoryNotFoundException>(() => Check());
        Directory.CreateDirectory(Data);
        Directory.CreateDirectory(Log);
        Assert.Throws<DirectoryNotFoundException>(() => Check());
        Assert.Empty(Directory.GetFileSystemEntries(Data));
        Assert.Empty(Directory.GetFileSystemEntries(Log));
    }

    private (int Code, string Text) Check()
    {
        using var output = new StringWriter();
        var code = CheckTool.Run(Data, Log, output);
        return (code, output.ToString());
    }

    private void Spoil(string place, string pattern)
    {
        var file = Directory.GetFiles(_directory.Sub(place), pattern, SearchOption.AllDirectories).Order(StringComparer.Ordinal).First();
        using var stream = new FileStream(file, FileMode.Open);
        // The front of a file is in use in all four formats.
        stream.Write(Encoding.ASCII.GetBytes(new string('x', 64)));
    }

    /// <summary>
    /// What a crash leaves that comes after the state of a received snapshot is durable and before the log says so: the
    /// snapshot is that of a copy of the node, which went on for a while.
    /// </summary>
    private async Task LeaveASnapshotInstalledAndTheLogUntoldAsync()
    {
        await RunNodeAsync();
        var (laterData, laterLog) = (_directory.Sub("later-data"), _directory.Sub("later-log"));
        Copy(Data, laterData);
        Copy(Log, laterLog);
        await RunNodeAsync(laterData, laterLog, static client => Assert.Equal("+OK", client.Text("SET", "d", "later")));

        using var from = OpenStore(laterData);
        using var source = Machine(from);
        using var snapshot = source.OpenSnapshot();
        using var to = OpenStore(Data);
        using var target = Machine(to);
        using var restore = target.CreateRestore(snapshot.Meta);
        var chunk = new byte[4096];
        for (int count; (count = snapshot.Read(chunk)) > 0;)
        {
            restore.Write(chunk.AsSpan(0, count));
        }

        restore.Complete();
        restore.Commit();
    }

    private static Store OpenStore(string directory) =>
        Store.Open(directory, new StoreOptions { Fatal = static e => throw new InvalidOperationException("the store gave up", e) });

    private static KvStateMachine Machine(Store store) =>
        new(store, new Executor(CommandTable.Default, new ServerStats()), ["n:1"]);

    private static void Copy(string from, string to)
    {
        foreach (var file in Directory.GetFiles(from, "*", SearchOption.AllDirectories))
        {
            var copy = Path.Combine(to, Path.GetRelativePath(from, file));
            _ = Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }
    }

    /// <summary>Starts a node, writes three keys and a snapshot, and stops it.</summary>
    private Task RunNodeAsync(Action<RespClient>? meanwhile = null) => RunNodeAsync(Data, Log, client =>
    {
        Assert.Equal("+OK", client.Text("MSET", "a", "1", "b", "2", "c", "3"));
        Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
        meanwhile?.Invoke(client);
    });

    private static async Task RunNodeAsync(string data, string log, Action<RespClient> meanwhile)
    {
        string[] arguments = ["--addr", "127.0.0.1:0", "--data", data, "--log-dir", log, "--wal-segment-size", "1mb"];
        var options = Assert.IsType<Invocation.RunNode>(new CommandLine(static _ => null).Parse(arguments)).Options;
        using var lines = new MemoryStream();
        var sink = new LogSink(lines, LogFormat.Text, TimeProvider.System);
        await using (await Node.StartAsync(options, sink.CreateLogger("kvnode"), static () => { }))
        {
            sink.Dispose();
            var port = ListeningLine().Match(Encoding.UTF8.GetString(lines.ToArray())).Groups["port"].Value;
            using var client = new RespClient(int.Parse(port));
            meanwhile(client);
        }
    }

    /// <summary>Every file but the lock files, with its size and content's hash.</summary>
    private string Picture() => string.Join('\n', Directory.GetFiles(_directory.Path, "*", SearchOption.AllDirectories)
        .Where(static file => Path.GetFileName(file) != "LOCK")
        .Order(StringComparer.Ordinal)
        .Select(static file => $"{file} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(File.ReadAllBytes(file)))}"));

    [GeneratedRegex(@"Listening on 127\.0\.0\.1:(?<port>\d+)", RegexOptions.ExplicitCapture)]
    private static partial Regex ListeningLine();
}
