using KvNode.Raft;
using KvNode.Server.Commands;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandConnectionTests
{
    private const string HelloBody =
        "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:{0}\r\n$2\r\nid\r\n:7\r\n"
        + "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";

    private const string Name = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";

    [Theory]
    [InlineData("PING", "+PONG\r\n")]
    [InlineData("ping hi", "$2\r\nhi\r\n")]
    [InlineData("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n")]
    [InlineData("ECHO hi", "$2\r\nhi\r\n")]
    [InlineData("ECHO", "-ERR wrong number of arguments for 'echo' command\r\n")]
    [InlineData("SELECT 0", "+OK\r\n")]
    [InlineData("SELECT 1", "-ERR DB index is out of range\r\n")]
    [InlineData("SELECT -1", "-ERR DB index is out of range\r\n")]
    [InlineData("SELECT a", "-ERR value is not an integer or out of range\r\n")]
    [InlineData("SELECT 00", "-ERR value is not an integer or out of range\r\n")]
    [InlineData("SELECT +0", "-ERR value is not an integer or out of range\r\n")]
    [InlineData("SELECT -", "-ERR value is not an integer or out of range\r\n")]
    [InlineData("SELECT 0x", "-ERR value is not an integer or out of range\r\n")]
    [InlineData("SELECT 99999999999999999999", "-ERR value is not an integer or out of range\r\n")]
    [InlineData("SELECT \"\"", "-ERR value is not an integer or out of range\r\n")]
    public void SmallCommandsAnswerAsRedis(string line, string reply) =>
        Assert.Equal(reply, new CommandRunner().Run(line));

    [Theory]
    [InlineData("QUIT")]
    [InlineData("quit now please")]
    public void QuitAnswersThenCloses(string line)
    {
        var runner = new CommandRunner();
        Assert.Equal("+OK\r\n", runner.Run(line));
        Assert.True(runner.Client.Closed);
    }

    [Theory]
    [InlineData(2, "HELLO", 2)]
    [InlineData(2, "HELLO 2", 2)]
    [InlineData(2, "HELLO 3", 3)]
    [InlineData(3, "HELLO 2", 2)]
    [InlineData(2, "hello 3 auth default whatever setname me", 3)]
    [InlineData(2, "HELLO 3 SETNAME me AUTH default x", 3)]
    public void HelloSwitchesTheProtocolOfItsOwnAnswer(int before, string line, int after)
    {
        var runner = new CommandRunner(before);
        runner.Client.Info.Protocol = before;
        var head = after == 3 ? "%7\r\n" : "*14\r\n";
        Assert.Equal(head + HelloBody.Replace("{0}", $"{after}", StringComparison.Ordinal), runner.Run(line));
        Assert.Equal(after, runner.Client.Info.Protocol);
        Assert.Equal(line.Contains("me", StringComparison.Ordinal) ? "me" : "", runner.Client.Info.Name);
    }

    [Theory]
    [InlineData("HELLO foo", "-ERR Protocol version is not an integer or out of range\r\n")]
    [InlineData("HELLO 4", "-NOPROTO unsupported protocol version\r\n")]
    [InlineData("HELLO 1", "-NOPROTO unsupported protocol version\r\n")]
    [InlineData("HELLO 0", "-NOPROTO unsupported protocol version\r\n")]
    [InlineData("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'\r\n")]
    [InlineData("HELLO 3 auth", "-ERR Syntax error in HELLO option 'auth'\r\n")]
    [InlineData("HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'\r\n")]
    [InlineData("HELLO 3 auth a b", "-WRONGPASS invalid username-password pair or user is disabled.\r\n")]
    [InlineData("HELLO 3 setname", "-ERR Syntax error in HELLO option 'setname'\r\n")]
    [InlineData("HELLO 3 setname a b", "-ERR Syntax error in HELLO option 'b'\r\n")]
    [InlineData("HELLO 3 setname \u0001", Name)]
    public void ARefusedHelloChangesNothing(string line, string reply)
    {
        var runner = new CommandRunner();
        Assert.Equal(reply, runner.Run(line));
        Assert.Equal(2, runner.Client.Info.Protocol);
        Assert.Equal("", runner.Client.Info.Name);
    }

    [Fact]
    public void AFollowerSaysThatItIsAReplica()
    {
        var runner = new CommandRunner();
        runner.Node.Status = runner.Node.Status with { Role = RaftRole.Follower };
        Assert.Contains("$4\r\nrole\r\n$7\r\nreplica\r\n", runner.Run("HELLO"), StringComparison.Ordinal);
    }

    [Fact]
    public void AConnectionMayBeNamedAndUnnamed()
    {
        var runner = new CommandRunner();
        Assert.Equal("$-1\r\n", runner.Run("CLIENT GETNAME"));
        Assert.Equal("+OK\r\n", runner.Run("client setname a~!"));
        Assert.Equal("$3\r\na~!\r\n", runner.Run("CLIENT GETNAME"));
        Assert.Equal(Name, runner.Run(Wire.Bytes("CLIENT"), Wire.Bytes("SETNAME"), Wire.Bytes("a b")));
        Assert.Equal(Name, runner.Run(Wire.Bytes("CLIENT"), Wire.Bytes("SETNAME"), Wire.Bytes("a\u007F")));
        Assert.Equal("+OK\r\n", runner.Run("CLIENT SETNAME \"\""));
        Assert.Equal("$-1\r\n", runner.Run("CLIENT GETNAME"));
        Assert.Equal("_\r\n", new CommandRunner(3).Run("CLIENT GETNAME"));
        Assert.Equal(":7\r\n", runner.Run("CLIENT ID"));
    }

    [Theory]
    [InlineData("CLIENT SETINFO lib-name redis-py", "+OK\r\n", "redis-py", "")]
    [InlineData("CLIENT SETINFO LIB-VER 1.2.3", "+OK\r\n", "", "1.2.3")]
    [InlineData("CLIENT SETINFO lib-foo x", "-ERR Unrecognized option 'lib-foo'\r\n", "", "")]
    [InlineData("CLIENT SETINFO lib-name \u0002",
        "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n", "", "")]
    [InlineData("CLIENT SETINFO lib-name", "-ERR wrong number of arguments for 'client|setinfo' command\r\n", "", "")]
    public void ClientLibrariesIntroduceThemselves(string line, string reply, string name, string version)
    {
        var runner = new CommandRunner();
        Assert.Equal(reply, runner.Run(line));
        Assert.Equal((name, version), (runner.Client.Info.LibraryName, runner.Client.Info.LibraryVersion));
    }

    [Theory]
    [InlineData("CLIENT NO-EVICT on", "+OK\r\n", true)]
    [InlineData("client no-evict OFF", "+OK\r\n", false)]
    [InlineData("CLIENT NO-EVICT foo", "-ERR syntax error\r\n", false)]
    [InlineData("CLIENT NO-EVICT", "-ERR wrong number of arguments for 'client|no-evict' command\r\n", false)]
    public void NoEvictIsNoted(string line, string reply, bool noted)
    {
        var runner = new CommandRunner();
        Assert.Equal(reply, runner.Run(line));
        Assert.Equal(noted, runner.Client.Info.NoEvict);
    }

    [Fact]
    public void ClientInfoIsOneLineInRedissFormat()
    {
        var runner = new CommandRunner
        {
            Client = new FakeClient
            {
                Info = Client(7, client =>
                {
                    client.Name = "me";
                    client.LibraryName = "redis-py";
                    client.LibraryVersion = "5.0";
                    client.LastCommand = "client|info";
                    client.Protocol = 3;
                    client.QueryBufferBytes = 26;
                    client.OutputBufferBytes = 10;
                    client.NoEvict = true;
                }),
            },
        };
        const string Line =
            "id=7 addr=127.0.0.1:50001 laddr=127.0.0.1:4920 fd=12 name=me age=0 idle=0 flags=e db=0 sub=0 psub=0 ssub=0 "
            + "multi=-1 qbuf=26 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=10 oll=0 omem=0 tot-mem=36 events=rw "
            + "cmd=client|info user=default redir=-1 resp=3 lib-name=redis-py lib-ver=5.0\n";
        Assert.Equal($"${Line.Length}\r\n{Line}\r\n", runner.Run("CLIENT INFO"));
    }

    [Theory]
    [InlineData("CLIENT LIST", "7,8,9")]
    [InlineData("CLIENT LIST TYPE normal", "7,8,9")]
    [InlineData("CLIENT LIST TYPE PUBSUB", "")]
    [InlineData("CLIENT LIST TYPE replica", "")]
    [InlineData("CLIENT LIST type slave", "")]
    [InlineData("CLIENT LIST TYPE master", "")]
    [InlineData("CLIENT LIST ID 9 7 9 100", "7,9")]
    [InlineData("CLIENT LIST id 1", "")]
    public void ClientListShowsTheConnectionsAskedFor(string line, string ids)
    {
        foreach (var protocol in (int[])[2, 3])
        {
            var runner = new CommandRunner(protocol);
            runner.Node.ClientList.AddRange([Client(7), Client(8), Client(9)]);
            var reply = runner.Run(line);
            Assert.Equal(protocol == 3, reply.Contains("\r\ntxt:", StringComparison.Ordinal));
            var text = (string)Wire.ToJson(reply)!;
            var lines = text[(protocol == 3 ? 4 : 0)..].Split('\n', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal(ids, string.Join(',', lines.Select(each => each[3..each.IndexOf(' ', StringComparison.Ordinal)])));
            Assert.All(lines, each => Assert.Equal(30, each.Split(' ').Length));
        }
    }

    [Theory]
    [InlineData("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'\r\n")]
    [InlineData("CLIENT LIST TYPE", "-ERR syntax error\r\n")]
    [InlineData("CLIENT LIST TYPE normal x", "-ERR syntax error\r\n")]
    [InlineData("CLIENT LIST ID", "-ERR syntax error\r\n")]
    [InlineData("CLIENT LIST foo bar", "-ERR syntax error\r\n")]
    [InlineData("CLIENT LIST ID 7 foo", "-ERR Invalid client ID\r\n")]
    [InlineData("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n")]
    [InlineData("CLIENT KILL x", "-ERR unknown subcommand 'KILL'. Try CLIENT HELP.\r\n")]
    public void ABadClientCommandIsRefused(string line, string reply) =>
        Assert.Equal(reply, new CommandRunner().Run(line));

    private static ClientInfo Client(long id, Action<ClientInfo>? with = null)
    {
        // Ahead of the clock, so that an age of 0 does not depend on how long the test takes.
        var client = new ClientInfo
        {
            Id = id,
            RemoteAddress = "127.0.0.1:50001",
            LocalAddress = "127.0.0.1:4920",
            FileDescriptor = 12,
            ConnectedAtMs = Environment.TickCount64 + 600_000,
            LastActiveMs = Environment.TickCount64 + 600_000,
        };
        with?.Invoke(client);
        return client;
    }
}
