using System.Globalization;
using System.Text;
using System.Text.Json;
using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>Backup and restore as an operator does it: RAFTSNAPSHOT, lz4, --parse-snapshot, redis-cli --pipe.</summary>
public sealed class SnapshotTests : IDisposable
{
    private readonly TempDirectory _directory = new("snapshot");

    private string Data => _directory.Sub("data");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void SnapshotPipedIntoAnEmptyNodeGivesEqualKeysAndValues()
    {
        using var first = NodeProcess.Start(Data);
        using var client = first.Connect(TimeSpan.FromSeconds(60));
        FillWithOddKeys(client);
        Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
        var state = StateFile();
        Assert.Equal(0, Tool.RunOk("lz4", ["-t", state]).ExitCode);

        using var second = NodeProcess.Start(_directory.Sub("second"));
        var commands = Tool.RunOk(Repository.NodeBinary, ["--parse-snapshot", state]);
        Assert.Empty(commands.Errors);
        var piped = Tool.RunOk("redis-cli", ["-p", $"{second.Port}", "--pipe"], commands.Output);
        Assert.Contains("errors: 0", piped.Text, StringComparison.Ordinal);
        using var copy = second.Connect(TimeSpan.FromSeconds(60));
        Assert.Equal(Dump(client), Dump(copy));

        var fromStdin = Tool.RunOk(Repository.NodeBinary, ["--parse-snapshot", "-"], File.ReadAllBytes(state));
        Assert.True(commands.Output.AsSpan().SequenceEqual(fromStdin.Output));
    }

    [Fact]
    public void MetaTellsIndexTermSizeAndCount()
    {
        using var node = NodeProcess.Start(Data);
        using var client = node.Connect();
        Assert.Equal("+OK", client.Text("MSET", "a", "1", "b", "2", "c", "3"));
        Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
        var folder = Path.GetDirectoryName(StateFile())!;
        var name = Path.GetFileName(folder).Split('-').Select(part => long.Parse(part, CultureInfo.InvariantCulture)).ToArray();
        using var meta = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "meta.json")));
        var root = meta.RootElement;
        Assert.Equal(3, name.Length);
        Assert.Equal(name[0], root.GetProperty("Term").GetInt64());
        Assert.Equal(name[1], root.GetProperty("Index").GetInt64());
        Assert.Equal(Path.GetFileName(folder), root.GetProperty("ID").GetString());
        Assert.Equal(new FileInfo(StateFile()).Length, root.GetProperty("Size").GetInt64());
        Assert.Equal(8, Convert.FromBase64String(root.GetProperty("CRC").GetString()!).Length);
        Assert.NotNull(root.GetProperty("Peers").GetString());
        Assert.Equal(3, root.GetProperty("Count").GetInt64());
        Assert.Equal(name[1].ToString(CultureInfo.InvariantCulture), client.Call("RAFTSTATS").Field("last_snapshot_index")?.Text);
    }

    [Fact]
    public void SnapshotTakenWhileWritesGoOnIsOfOneMoment()
    {
        using var node = NodeProcess.Start(Data);
        using var client = node.Connect(TimeSpan.FromSeconds(60));
        Fill(client, "filler:", 30_000);
        var stop = false;
        var writers = Enumerable.Range(0, 3).Select(writer => new Thread(() => WriteGroups(node, writer, ref stop))).ToArray();
        Array.ForEach(writers, writer => writer.Start());
        for (var i = 0; i < 6; i++)
        {
            Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
            AssertOneMoment(Parse(StateFile()));
        }

        Volatile.Write(ref stop, true);
        Array.ForEach(writers, writer => writer.Join());
        Assert.Equal(3, Folders().Length);
    }

    [Fact]
    public void SnapshotsKeepFlagKeepsThatMany()
    {
        using var node = NodeProcess.Start(Data, "--snapshots-keep", "1", "--log-dir", _directory.Sub("log"));
        using var client = node.Connect();
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal("+OK", client.Text("SET", "a", $"{i}"));
            Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
        }

        var kept = Directory.GetDirectories(Path.Combine(_directory.Sub("log"), "snapshots"));
        Assert.Equal("2", Parse(Path.Combine(Assert.Single(kept), "state.bin"))["a"]);
    }

    [Fact]
    public void DamagedSnapshotExits65AndNeverLooksWhole()
    {
        Seeds.Run(nameof(DamagedSnapshotExits65AndNeverLooksWhole), random =>
        {
            using var node = NodeProcess.Start(Data);
            using var client = node.Connect();
            Fill(client, "k", 2000);
            Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
            var good = File.ReadAllBytes(StateFile());
            var damaged = _directory.Sub("damaged.bin");
            for (var round = 0; round < 24; round++)
            {
                var bytes = good.ToArray();
                if (round % 2 == 0)
                {
                    bytes = bytes[..random.Next(bytes.Length)];
                }
                else
                {
                    bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
                }

                File.WriteAllBytes(damaged, bytes);
                var result = Tool.Run(Repository.NodeBinary, ["--parse-snapshot", damaged]);
                Assert.True(result.ExitCode == ExitCodes.BadData, $"round {round}: exit {result.ExitCode}: {result.Errors}");
                Assert.NotEmpty(result.Errors);
                Assert.DoesNotContain("   at ", result.Errors, StringComparison.Ordinal);
            }
        });
    }

    [Theory]
    [InlineData("")]
    [InlineData("hello, this is no snapshot")]
    public void WhatIsNoSnapshotExits65(string content)
    {
        var file = _directory.Sub("other");
        File.WriteAllText(file, content);
        var result = Tool.Run(Repository.NodeBinary, ["--parse-snapshot", file]);
        Assert.Equal(ExitCodes.BadData, result.ExitCode);
        Assert.Empty(result.Output);
        Assert.Equal(ExitCodes.NoInput, Tool.Run(Repository.NodeBinary, ["--parse-snapshot", _directory.Sub("none")]).ExitCode);
    }

    [Fact]
    public void SnapshotOfTheOriginalKvnodeIsReadAndItsKeyPrefixDropped()
    {
        var file = _directory.Sub("original.bin");
        WriteOriginal(file, ("ka", "1"), ("kb", ""), ("kkey", "value"));
        var result = Tool.RunOk(Repository.NodeBinary, ["--parse-snapshot", file]);
        Assert.Equal(
            "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$0\r\n\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
            result.Text);
    }

    [Fact]
    public void SnapshotOfAnEmptyNodeRestoresNothing()
    {
        using var node = NodeProcess.Start(Data);
        using var client = node.Connect();
        Assert.Equal("+OK", client.Text("SET", "a", "1"));
        Assert.Equal(":1", client.Text("DEL", "a"));
        Assert.Equal("+OK", client.Text("RAFTSNAPSHOT"));
        Assert.Empty(Tool.RunOk(Repository.NodeBinary, ["--parse-snapshot", StateFile()]).Output);
    }

    /// <summary>Three writers, each MSETs its group of ten keys to one growing number.</summary>
    private static void WriteGroups(NodeProcess node, int writer, ref bool stop)
    {
        using var client = node.Connect(TimeSpan.FromSeconds(60));
        for (var i = 1; !Volatile.Read(ref stop); i++)
        {
            // Keys on both sides of the filler, so that a torn snapshot would read them far apart in time.
            RespArgument[] command =
            [
                "MSET", .. Enumerable.Range(0, 10).SelectMany(k =>
                    new RespArgument[] { $"{(k % 2 == 0 ? "a" : "z")}:{writer}:{k}", $"{i}" }),
            ];
            Assert.Equal("+OK", client.Text(command));
        }
    }

    private static void AssertOneMoment(SortedDictionary<string, string> state)
    {
        Assert.Equal(30_000, state.Keys.Count(key => key.StartsWith("filler:", StringComparison.Ordinal)));
        for (var writer = 0; writer < 3; writer++)
        {
            var group = state.Where(pair => pair.Key.StartsWith($"a:{writer}:", StringComparison.Ordinal) ||
                pair.Key.StartsWith($"z:{writer}:", StringComparison.Ordinal)).Select(pair => pair.Value).ToArray();
            Assert.True(group.Length is 0 or 10, $"writer {writer} has {group.Length} of 10 keys");
            Assert.True(group.Distinct(StringComparer.Ordinal).Count() <= 1, $"writer {writer}: {string.Join(' ', group)}");
        }
    }

    private static void Fill(RespClient client, string prefix, int count)
    {
        for (var i = 0; i < count; i++)
        {
            client.Send("SET", $"{prefix}{i:d6}", $"value {i} {i * 31L:x}");
        }

        client.Flush();
        for (var i = 0; i < count; i++)
        {
            Assert.Equal("+OK", client.Read().ToString());
        }
    }

    /// <summary>Empty, binary, long and short keys and values.</summary>
    private static void FillWithOddKeys(RespClient client)
    {
        Fill(client, "plain", 5000);
        var random = new Random(11);
        for (var i = 0; i < 300; i++)
        {
            var key = new byte[i % 10 == 0 ? random.Next(60_000) : random.Next(600)];
            var value = new byte[i % 17 == 0 ? random.Next(300_000) : random.Next(400)];
            random.NextBytes(key);
            random.NextBytes(value);
            Assert.Equal("+OK", client.Text("SET", key, value));
        }

        Assert.Equal("+OK", client.Text("MSET", "", "the empty key", "empty value", "", "crlf\r\n", "\r\n*3\r\n"));
    }

    private static string Dump(RespClient client)
    {
        var text = new StringBuilder();
        foreach (var item in client.Call("KEYS", "*", "WITHVALUES").Items!)
        {
            text.Append(Convert.ToHexString(item.Bytes!)).Append('\n');
        }

        return text.ToString();
    }

    private SortedDictionary<string, string> Parse(string state)
    {
        var commands = Encoding.Latin1.GetString(Tool.RunOk(Repository.NodeBinary, ["--parse-snapshot", state]).Output);
        var found = new SortedDictionary<string, string>(StringComparer.Ordinal);
        var lines = commands.Split("\r\n");
        for (var i = 0; i + 6 < lines.Length; i += 7)
        {
            Assert.Equal("SET", lines[i + 2]);
            found.Add(lines[i + 4], lines[i + 6]);
        }

        return found;
    }

    private string[] Folders() => Directory.GetDirectories(Path.Combine(Data, "snapshots"));

    /// <summary>The newest state.bin: folder names are term, index and time, so the highest index wins.</summary>
    private string StateFile()
    {
        var folders = Folders();
        Assert.All(folders, folder => Assert.False(folder.EndsWith(".tmp", StringComparison.Ordinal)));
        var newest = folders.MaxBy(folder => long.Parse(Path.GetFileName(folder).Split('-')[2], CultureInfo.InvariantCulture))!;
        return Path.Combine(newest, "state.bin");
    }

    private static void WriteOriginal(string file, params (string Key, string Value)[] records)
    {
        using var stream = new System.IO.Compression.GZipStream(File.Create(file), System.IO.Compression.CompressionLevel.Optimal);
        using var writer = new BinaryWriter(stream);
        foreach (var (key, value) in records)
        {
            writer.Write((ulong)key.Length);
            writer.Write(Encoding.ASCII.GetBytes(key));
            writer.Write((ulong)value.Length);
            writer.Write(Encoding.ASCII.GetBytes(value));
        }
    }
}
