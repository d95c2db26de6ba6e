using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>A real full disk: a small tmpfs. Needs root for the mount.</summary>
public sealed class DiskFullTests : IDisposable
{
    private const int ValueBytes = 8000;

    private readonly TempDirectory _directory = new("diskfull");
    private readonly string _mount;
    private bool _mounted;

    public DiskFullTests() => _mount = _directory.Sub("disk");

    public void Dispose()
    {
        if (_mounted)
        {
            _ = Tool.Run("umount", ["-l", _mount]);
        }

        _directory.Dispose();
    }

    [Fact]
    public void SmallDiskFillsUpThenIsEnlargedAndNothingAnsweredIsLost()
    {
        Mount("40m");
        using var node = new NodeSlot(Start());
        using var client = node.Current.Connect();
        var stored = FillUntilRefused(client, 0);
        AssertServesReads(client, stored);
        Assert.StartsWith("-MISCONF ", client.Text("SET", "another", new byte[ValueBytes]), StringComparison.Ordinal);

        // Restart on the full disk: what was answered is there, and reads work.
        node.Current.Kill9();
        node.Replace(node.Current.Restart());
        using var second = node.Current.Connect();
        AssertServesReads(second, stored);

        Remount("160m");
        SetWhenAccepted(second, "resumed", [1]);
        var more = stored + 300;
        for (var i = stored; i < more; i++)
        {
            SetWhenAccepted(second, Key(i), Value(i));
        }

        node.Current.Kill9();
        node.Replace(node.Current.Restart());
        using var third = node.Current.Connect();
        AssertServesReads(third, more);
        Assert.Equal($":{more + 1}", third.Text("DBSIZE"));
    }

    [Fact]
    public void WritesResumeOnTheRunningNodeWhenSpaceIsBack()
    {
        Mount("40m");
        using var node = Start();
        using var client = node.Connect();
        var stored = FillUntilRefused(client, 0);
        Remount("120m");
        SetWhenAccepted(client, "resumed", [1]);
        SetWhenAccepted(client, Key(stored), Value(stored));
        AssertServesReads(client, stored + 1);
        Assert.Equal(ExitCodes.Success, node.Terminate());
        using var again = node.Restart();
        using var reader = again.Connect();
        AssertServesReads(reader, stored + 1);
        Assert.Equal($":{stored + 2}", reader.Text("DBSIZE"));
    }

    private static int FillUntilRefused(RespClient client, int from)
    {
        for (var i = from; i < from + 100_000; i++)
        {
            var reply = client.Text("SET", Key(i), Value(i));
            if (reply != "+OK")
            {
                Assert.StartsWith("-MISCONF ", reply, StringComparison.Ordinal);
                Assert.Contains("space", reply, StringComparison.OrdinalIgnoreCase);
                return i;
            }
        }

        throw new InvalidOperationException("the small disk never fills up");
    }

    /// <summary>The node looks every now and then whether there is space again; until then it refuses.</summary>
    private static void SetWhenAccepted(RespClient client, string key, byte[] value) =>
        Waiting.Until(
            () =>
            {
                var reply = client.Text("SET", key, value);
                Assert.True(reply == "+OK" || reply.StartsWith("-MISCONF ", StringComparison.Ordinal), reply);
                return reply == "+OK";
            },
            "writes do not resume when space is back",
            seconds: 20);

    private static void AssertServesReads(RespClient client, int stored)
    {
        Assert.True(stored > 100, $"only {stored} values of {ValueBytes} bytes fitted");
        var keys = client.Call("KEYS", "fill:*");
        Assert.Equal(stored, keys.Count);
        for (var i = 0; i < stored; i += 37)
        {
            Assert.Equal(Value(i), client.Call("GET", Key(i)).Bytes);
        }
    }

    private static string Key(int number) => $"fill:{number:d6}";

    private static byte[] Value(int number)
    {
        var value = new byte[ValueBytes];
        new Random(number).NextBytes(value);
        return value;
    }

    private NodeProcess Start() => NodeProcess.Start(
        Path.Combine(_mount, "data"), "--wal-segment-size", "1mb", "--write-buffer", "1mb");

    private void Mount(string size)
    {
        TestSkip.UnlessRoot("a tmpfs must be mounted");
        Directory.CreateDirectory(_mount);
        var result = Tool.Run("mount", ["-t", "tmpfs", "-o", $"size={size}", "kvnode-test", _mount]);
        if (result.ExitCode != 0)
        {
            TestSkip.Because($"tmpfs cannot be mounted here: {result.Errors.Trim()}");
        }

        _mounted = true;
    }

    private void Remount(string size) => _ = Tool.RunOk("mount", ["-o", $"remount,size={size}", _mount]);
}
