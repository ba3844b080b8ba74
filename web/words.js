// The player's labels in the languages of locales/. Error messages stay in English everywhere:
// docs/troubleshooting.md quotes them.

export const LANGUAGES = ["zh", "ja", "ko"]; // the order of the texts below

export const WORDS = {
  "4D scene: drag to orbit, right-drag to pan, scroll to zoom; space plays or pauses, arrow keys step frames, shift and arrow keys orbit, plus and minus zoom": [
    "4D 场景：拖动旋转，右键拖动平移，滚轮缩放；空格键播放或暂停，方向键逐帧切换，Shift 加方向键旋转，加号和减号缩放",
    "4Dシーン：ドラッグで回転、右ドラッグで平行移動、ホイールでズーム。スペースで再生／一時停止、矢印キーでコマ送り、Shift＋矢印キーで回転、＋と－でズーム",
    "4D 장면: 드래그로 회전, 오른쪽 드래그로 이동, 휠로 확대/축소, 스페이스바로 재생/일시 정지, 화살표 키로 한 프레임씩 이동, Shift+화살표 키로 회전, 더하기와 빼기 키로 확대/축소",
  ],
  "Divider between before and after": ["编辑前后的分隔线", "編集前と編集後の境界線", "편집 전후를 나누는 선"],
  "Drag to compare: before on the left, after on the right": [
    "拖动以对比：左侧为编辑前，右侧为编辑后", "ドラッグで比較：左が編集前、右が編集後", "드래그하여 비교: 왼쪽이 편집 전, 오른쪽이 편집 후",
  ],
  "upload zip or videos": ["上传 zip 或视频", "zip または動画をアップロード", "zip 또는 비디오 업로드"],
  "more settings ({})": ["更多设置（{}）", "その他の設定（{}）", "추가 설정 ({})"],
  "seed after each run": ["每次运行后的种子", "実行ごとのシード", "실행할 때마다 시드"],
  "What becomes of the seed when the graph is queued. A run that was canceled goes on only with its own seed.": [
    "工作流加入队列后种子如何变化。取消的运行只有使用原来的种子才能继续。",
    "ワークフローをキューに追加した後のシードの扱い。キャンセルした実行は、同じシードでのみ再開できます。",
    "워크플로를 대기열에 넣은 뒤 시드를 어떻게 바꿀지 정합니다. 취소한 실행은 같은 시드로만 이어집니다.",
  ],
  "fewer settings": ["收起设置", "設定を閉じる", "설정 접기"],
  "upload file": ["上传文件", "ファイルをアップロード", "파일 업로드"],
  Before: ["编辑前", "編集前", "편집 전"],
  After: ["编辑后", "編集後", "편집 후"],
  "Play (space)": ["播放（空格键）", "再生（スペース）", "재생(스페이스바)"],
  "Pause (space)": ["暂停（空格键）", "一時停止（スペース）", "일시 정지(스페이스바)"],
  Time: ["时间", "時間", "시간"],
  "Previous frame (left arrow)": ["上一帧（左方向键）", "前のフレーム（左矢印）", "이전 프레임(왼쪽 화살표)"],
  "Next frame (right arrow)": ["下一帧（右方向键）", "次のフレーム（右矢印）", "다음 프레임(오른쪽 화살표)"],
  "frame {} of {}, {} seconds": ["第 {} 帧，共 {} 帧，{} 秒", "フレーム {} / {}、{} 秒", "프레임 {} / {}, {}초"],
  "Loop playback": ["循环播放", "繰り返し再生", "반복 재생"],
  Speed: ["速度", "速度", "속도"],
  "View through a captured camera": ["从拍摄相机的视角观看", "撮影カメラの視点で見る", "촬영 카메라 시점에서 보기"],
  "free view": ["自由视角", "自由視点", "자유 시점"],
  Background: ["背景", "背景", "배경"],
  scene: ["场景", "シーン", "장면"],
  black: ["黑色", "黒", "검정"],
  white: ["白色", "白", "흰색"],
  gray: ["灰色", "グレー", "회색"],
  checker: ["棋盘格", "市松模様", "체크무늬"],
  transparent: ["透明", "透過", "투명"],
  "Splat size": ["泼溅大小", "スプラットのサイズ", "스플랫 크기"],
  "Reset view": ["重置视角", "視点をリセット", "시점 초기화"],
  "Full screen": ["全屏", "全画面", "전체 화면"],
  "Use this camera": ["使用此相机", "このカメラを使う", "이 카메라 사용"],
  "Use this camera: send this view to the node's camera output": [
    "使用此相机：将当前视角发送到此节点的相机输出",
    "このカメラを使う：現在の視点をこのノードのカメラ出力に送る",
    "이 카메라 사용: 현재 시점을 이 노드의 카메라 출력으로 보냅니다",
  ],
  "The node's camera now uses this view.": [
    "节点的相机现在使用此视角。", "ノードのカメラがこの視点になりました。", "노드의 카메라가 이 시점으로 바뀌었습니다.",
  ],
  "Camera set": ["相机已设置", "設定済み", "설정됨"],
  "The camera input is connected; disconnect it to set the camera here.": [
    "相机输入已连接；断开后才能在此设置相机。",
    "カメラ入力が接続されています。ここで設定するには接続を外してください。",
    "카메라 입력이 연결되어 있습니다. 여기서 설정하려면 연결을 끊으세요.",
  ],
  Connected: ["已连接", "接続中", "연결됨"],
  "Run the graph to play the scene here.": [
    "运行工作流后，场景会在这里播放。", "ワークフローを実行すると、ここでシーンが再生されます。", "워크플로를 실행하면 장면이 여기에서 재생됩니다.",
  ],
  "The connection was interrupted; trying again …": [
    "连接中断，正在重试…", "接続が中断されました。再試行しています…", "연결이 끊겼습니다. 다시 시도하는 중…",
  ],
  "Loading …": ["正在加载…", "読み込み中…", "불러오는 중…"],
};

/**
 * A function that says `text` in `language` ("ja", "zh-CN"), each {} filled with one of `values`.
 * English where there is no translation.
 */
export function translator(language) {
  const which = LANGUAGES.indexOf(String(language ?? "").toLowerCase().split(/[-_]/)[0]);
  return (text, ...values) => {
    const left = [...values];
    return (WORDS[text]?.[which] ?? text).replaceAll("{}", () => left.shift() ?? "");
  };
}
